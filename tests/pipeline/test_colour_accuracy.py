"""How exactly colours come in through a profile and go out again, in levels and as CIEDE2000."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from pipeline.photos.decode import decode
from pipeline.photos.encode import encode
from pipeline.photos.vips import libvips
from supir_core.fidelity import ciede2000, lab
from tests.pipeline.traps import tif

SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
P3 = np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0.0, 0.0451134, 1.0439444]])
"""Linear light -> CIE XYZ under D65 (IEC 61966-2-1; SMPTE EG 432-1)."""


def colours() -> np.ndarray:
    """(64, 64, 3) in [0, 1]: sRGB, light and dark."""
    return np.random.default_rng(4).uniform(0.0, 1.0, (64, 64, 3)) ** 1.5


def linear(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


class Difference(NamedTuple):
    """Of two pictures with values in [0, 1]."""

    levels: float  # the largest, of 65535
    de_mean: float  # CIEDE2000
    de_max: float


def difference(one: np.ndarray, other: np.ndarray) -> Difference:
    de = ciede2000(lab(one * 255), lab(other * 255))
    return Difference(float(np.abs(one - other).max() * 65535), float(de.mean()), float(de.max()))


@pytest.mark.parametrize(("bits", "mean", "most"), [(16, 0.1, 1.0), (8, 0.2, 1.3)])
def test_display_p3_comes_in_as_the_same_colours(bits: int, mean: float, most: float) -> None:
    wanted = colours()
    p3 = encoded(linear(wanted) @ (np.linalg.inv(P3) @ SRGB).T)
    values = np.rint(p3 * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)
    decoded = decode(tif(values, photometric="rgb", iccprofile=libvips().Image.profile_load("p3")))
    found, plain = (difference(v, wanted) for v in (decoded.pixels / 65535, values / (2**bits - 1)))
    print(f"Display P3 of {bits} bits: {found}; without its profile: {plain}")
    assert decoded.warnings == []
    assert found.de_mean < mean and found.de_max < most and plain.de_mean > 5 * found.de_mean


@pytest.mark.parametrize(("bits", "levels"), [(16, 0.5), (8, 128.5)])
@pytest.mark.parametrize("name", ["tiff", "png"])
def test_results_are_rounded_once(name: str, bits: int, levels: float) -> None:
    wanted = colours()
    image = np.ascontiguousarray(wanted.transpose(2, 0, 1) * 2 - 1).astype(np.float32)
    found = difference(decode(encode(image, name, bits=bits).getvalue()).pixels / 65535, wanted)
    print(f"{name} of {bits} bits: {found}")
    assert found.levels <= levels + 0.02
