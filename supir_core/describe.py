"""A description by rule, for runs without a model of language: what can be measured of a picture's pixels, in words.

It says that it measures. Nothing in it knows what a picture shows. It is short, as the text encoders have room for some
twenty tokens beside the words of a shipped preset.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from supir_core.image import shrunk

MEASURED_SIDE_PX = 256  # short side; colours and tones need no more

DARK, BRIGHT = 0.3, 0.7  # mean brightness, of 0 to 1
LOW_CONTRAST = 0.35  # between the darkest and the brightest twentieth
GREY = 0.02  # mean distance of a pixel's channels from their mean
SEPIA_DEG, SEPIA_SHARE = (15.0, 60.0), 0.9  # hues of brown paper, and how much of all colour lies there
DOMINANT = 0.2  # share of the coloured pixels
COLOURED = 0.15  # a pixel's saturation
FLAT = 2.0  # standard deviation of 8-bit levels
SHARP, SOFT = 1.1, 0.7  # the example photos: 1.3 to 1.4 sharp, 0.83 to 0.88 degraded, 0.57 to 0.82 blurred by a pixel

_HUES = ((20, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (200, "cyan"), (260, "blue"), (300, "purple"))
_LAST_HUES = ((340, "pink"), (360, "red"))


def describe(pixels: np.ndarray) -> str:
    """One line on a picture's shape, tone, colour and sharpness, as measured.

    Args:
        pixels: (H, W, 3) uint8, sRGB, upright.
    """
    height, width = pixels.shape[:2]
    small = shrunk(pixels, MEASURED_SIDE_PX).astype(np.float32) / 255  # (h, w, 3)
    shape = [_orientation(height, width), _size(height * width / 1e6)]
    return f"Measured: {', '.join([*shape, *_tone(small), _colour(small), _sharpness(pixels)])}."


def _orientation(height: int, width: int) -> str:
    if abs(height - width) <= 0.05 * max(height, width):
        return "square"
    return "landscape" if width > height else "portrait"


def _size(megapixels: float) -> str:
    if megapixels < 0.05:
        return "tiny"
    return f"{megapixels:.0f} MP" if megapixels >= 1 else f"{megapixels:.1f} MP"


def _tone(small: np.ndarray) -> list[str]:
    brightness = small.mean(axis=2)
    low, high = np.quantile(brightness, (0.05, 0.95))
    mean = float(brightness.mean())
    level = ["dark"] if mean < DARK else ["bright"] if mean > BRIGHT else []
    return [*level, "low contrast"] if high - low < LOW_CONTRAST else level


def _colour(small: np.ndarray) -> str:
    if np.abs(small - small.mean(axis=2, keepdims=True)).mean() < GREY:
        return "greyscale"
    hsv = np.asarray(Image.fromarray((small * 255).round().astype(np.uint8)).convert("HSV"), np.float32)
    hue_deg, saturation = hsv[..., 0] * (360 / 255), hsv[..., 1] / 255
    coloured = hue_deg[(saturation > COLOURED) & (hsv[..., 2] > 25)]
    if not len(coloured):
        return "greyscale"
    if ((coloured >= SEPIA_DEG[0]) & (coloured <= SEPIA_DEG[1])).mean() > SEPIA_SHARE and coloured.std() < 10:
        return "sepia"
    bounds, names = zip(*_HUES, *_LAST_HUES, strict=True)
    shares: dict[str, float] = {}
    for name, count in zip(names, np.bincount(np.searchsorted(bounds, coloured), minlength=len(names)), strict=False):
        shares[name] = shares.get(name, 0.0) + float(count) / len(coloured)
    dominant = sorted((name for name in shares if shares[name] >= DOMINANT), key=lambda name: -shares[name])[:2]
    return " and ".join(dominant) if dominant else "in many colours"


def _sharpness(pixels: np.ndarray) -> str:
    """How much steps between neighbours change from pixel to pixel, against the steps: blur makes them even."""
    grey = pixels.mean(axis=2, dtype=np.float32)
    if min(grey.shape) < 3 or grey.std() < FLAT:
        return "no edges"
    steps = sum(float(np.abs(np.diff(grey, 1, axis)).mean()) for axis in (0, 1))
    bends = sum(float(np.abs(np.diff(grey, 2, axis)).mean()) for axis in (0, 1))
    return "sharp" if bends > SHARP * steps else "soft" if bends < SOFT * steps else "slightly soft"
