"""How close a result is to its photo: against published values, and as one would expect."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from supir_core.fidelity import PSNR_MAX_DB, ciede2000, fidelity, lab

# Sharma, Wu, Dalal 2005, table 1: pairs that tell wrong implementations apart.
PAIRS = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 3.1571, -77.2803), (50.0, 0.0, -82.7485), 2.8615),
    ((50.0, 2.8361, -74.0200), (50.0, 0.0, -82.7485), 3.4412),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0011), 7.2195),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("one", "other", "expected"), PAIRS)
def test_colour_differences_are_the_published_ones(
    one: tuple[float, ...], other: tuple[float, ...], expected: float
) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)
    assert ciede2000(np.array(other), np.array(one)) == pytest.approx(expected, abs=1e-4)


def test_lab() -> None:
    found = lab(np.array([[255, 255, 255], [0, 0, 0], [119, 119, 119], [255, 0, 0]], np.uint8))
    expected = [[100, 0, 0], [0, 0, 0], [50.03, 0, 0], [53.24, 80.09, 67.20]]
    np.testing.assert_allclose(found, expected, atol=0.05)


def scene(height: int = 60, width: int = 90) -> np.ndarray:
    corners = np.random.default_rng(1).integers(30, 226, (3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC))


def test_equal_pictures_are_as_close_as_can_be() -> None:
    assert fidelity(scene(), scene()) == (PSNR_MAX_DB, 0.0)


def test_psnr_is_what_it_is_by_definition() -> None:
    one = scene()
    assert fidelity(one, one + 5).db == pytest.approx(10 * np.log10(255**2 / 25), abs=1e-6)
    tall = np.tile(one, (10, 1, 1))
    assert fidelity(tall, tall + 5).db == pytest.approx(fidelity(one, one + 5).db, abs=1e-6), "also by strips"


def test_detail_that_was_added_counts_little_and_a_cast_counts() -> None:
    large = scene(120, 180)
    photo = np.asarray(Image.fromarray(large).resize((90, 60), Image.Resampling.BICUBIC))
    grain = np.random.default_rng(2).normal(0, 12, (120, 180, 1))
    detailed = np.clip(large + grain, 0, 255).astype(np.uint8)
    cast = np.clip(large + np.array([12, 0, -12]), 0, 255).astype(np.uint8)
    assert fidelity(photo, detailed).db > fidelity(large, detailed).db + 5
    assert fidelity(photo, cast).de > 3 * fidelity(photo, detailed).de


def test_of_a_grey_photo_only_the_luminance_is_compared() -> None:
    grey = np.asarray(Image.fromarray(scene()).convert("L").convert("RGB"))
    assert fidelity(grey, scene(), grey=True) == (PSNR_MAX_DB, 0.0)
    assert fidelity(grey, scene()).de > 5


@pytest.mark.parametrize("size", [(120, 180), (60, 90), (30, 45), (61, 89)])
def test_a_result_of_any_size_is_compared(size: tuple[int, int]) -> None:
    result = np.asarray(Image.fromarray(scene(240, 360)).resize(size[::-1], Image.Resampling.BICUBIC))
    found = fidelity(scene(), result)
    assert found.db > 30 and found.de < 1
