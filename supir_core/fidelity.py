"""How close a result is to its photo, at the size of the smaller one: detail that was added then counts little."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from supir_core.image import shrunk

PSNR_MAX_DB = 100.0  # of equal pictures
COLOUR_SIDE_PX = 256  # colours are compared at this short side: neither grain nor invented detail is a colour cast
ROWS_AT_ONCE = 256  # of large pictures, in memory as floating point


class Fidelity(NamedTuple):
    """What stands in an index row."""

    db: float  # peak signal-to-noise ratio of the sRGB values: more is closer
    de: float  # mean colour difference CIEDE2000: less is closer; 1 is just noticeable


def fidelity(photo: np.ndarray, result: np.ndarray, grey: bool = False) -> Fidelity:
    """How close a result is to the photo that it was made of.

    Args:
        photo: (H, W, 3) uint8, sRGB.
        result: (height, width, 3) uint8, sRGB, of the same aspect.
        grey: of the result only the luminance counts, as it is written without colours.
    """
    result = np.asarray(Image.fromarray(result).convert("L").convert("RGB")) if grey else result
    height, width = (min(sides) for sides in zip(photo.shape[:2], result.shape[:2], strict=True))
    one, other = (_resized(pixels, height, width) for pixels in (photo, result))
    strips = [slice(top, top + ROWS_AT_ONCE) for top in range(0, height, ROWS_AT_ONCE)]
    squares = sum(float(np.square(one[rows].astype(np.float32) - other[rows]).sum(dtype=np.float64)) for rows in strips)
    error = squares / one.size
    db = PSNR_MAX_DB if error == 0 else min(PSNR_MAX_DB, 10 * float(np.log10(255**2 / error)))
    small = (lab(shrunk(pixels, COLOUR_SIDE_PX)) for pixels in (one, other))
    return Fidelity(db, float(ciede2000(*small).mean()))


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic with antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def lab(pixels: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65 of sRGB values (..., 3) uint8 (IEC 61966-2-1, CIE 15)."""
    value = pixels / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / to_xyz.sum(axis=1)  # to the white that the matrix makes: greys have no colour
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The colour difference CIEDE2000 of L*a*b* values (..., 3): Sharma, Wu, Dalal 2005, equations 2 to 22."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    g = 0.5 * (1 - _knee((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2))
    c1, h1 = _polar((1 + g) * a1, b1)
    c2, h2 = _polar((1 + g) * a2, b2)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    coloured = c1 * c2 != 0
    turn = np.where(coloured, (h2 - h1 + 180) % 360 - 180, 0)
    turn = np.where((turn == -180) & (h2 > h1), 180, turn)
    hue = np.where(coloured, _between(h1, h2), h1 + h2)
    d_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    d_l, d_c, d_h = (l2 - l1) / s_l, (c2 - c1) / (1 + 0.045 * chroma), d_hue / (1 + 0.015 * chroma * t)
    rotation = -2 * _knee(chroma) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return np.asarray(np.sqrt(d_l**2 + d_c**2 + d_h**2 + rotation * d_c * d_h))


def _knee(chroma: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))


def _polar(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360


def _between(h1: np.ndarray, h2: np.ndarray) -> np.ndarray:
    """The mean of two hues on the shorter way between them, in degrees."""
    mean = (h1 + h2) / 2
    return np.where(np.abs(h1 - h2) <= 180, mean, np.where(h1 + h2 < 360, mean + 180, mean - 180))


def _cos(degrees: np.ndarray) -> np.ndarray:
    return np.asarray(np.cos(np.radians(degrees)))
