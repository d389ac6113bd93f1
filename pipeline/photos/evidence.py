"""How far a result has moved from its photo, measured without any weights, and which results people should look at.

These numbers see colours that drift, parts that were replaced, pictures that moved, mush and invented texture. They do
NOT see a face that has become another person's by a little: an eye that is two pixels wider changes none of them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.photos.decode import to_8_bits
from pipeline.photos.vips import libvips
from supir_core.presets import Review

MOST_PIXELS = 2_000_000  # that colours are compared at; larger photos are shrunk for it
BLOCK_PX = 16
BLUR_PX = 2.0  # before colours are compared: noise that is gone is no difference
CROP_PX = 1024  # the middle of the result, where sharpness and noise are measured
FLAT = 1.0  # standard deviation, in 8-bit levels, of a picture without anything in it
SHIFT_PX = 512  # the middle of the photo, where the shift is
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Evidence(NamedTuple):
    """The result, shrunk to its photo, against the photo; None where that says nothing."""

    de_mean: float  # CIEDE2000 over all pixels
    de_block: float  # and of the worst block of 16 px
    bias_l: float  # mean difference in CIE L*, a*, b*
    bias_a: float
    bias_b: float
    shift_px: float  # of the photo's pixels
    sharpness_ratio: float | None  # variance of the Laplacian against the photo enlarged
    noise_ratio: float | None  # standard deviation of the noise against the photo's


def measured(image: np.ndarray, pixels: np.ndarray) -> Evidence:
    """The evidence of one result.

    Args:
        image: the result, (3, H, W) float32 in [-1, 1].
        pixels: the photo, (h, w, 3) uint16, sRGB.
    """
    height, width = (min(one, other) for one, other in zip(image.shape[1:], pixels.shape[:2], strict=True))
    scale = min(1.0, math.sqrt(MOST_PIXELS / (height * width)))
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    after, before = _shrunk(_of_result(image), height, width), _shrunk(_of_photo(pixels), height, width)
    lab_after, lab_before = _lab(after), _lab(before)
    difference = lab_after.dE00(lab_before)
    bias_l, bias_a, bias_b = ((lab_after[band] - lab_before[band]).avg() for band in range(3))
    sharpness, noise = _detail(image, pixels)
    shift = _shift(_luma(before.numpy()), _luma(after.numpy())) * pixels.shape[0] / height
    worst = _worst_block(difference.numpy())
    return Evidence(difference.avg(), worst, bias_l, bias_a, bias_b, shift, sharpness, noise)


def reasons(evidence: Evidence, limits: Review) -> list[str]:
    """Why people should look at a result; empty if nothing speaks for it."""
    bias = max(abs(evidence.bias_l), abs(evidence.bias_a), abs(evidence.bias_b))
    found = {
        "colour": evidence.de_mean > limits.de_mean or bias > limits.bias,
        "local-change": evidence.de_block > limits.de_block,
        "shift": evidence.shift_px > limits.shift_px,
        "soft": evidence.sharpness_ratio is not None and evidence.sharpness_ratio < limits.sharpness_min,
        "texture": evidence.sharpness_ratio is not None and evidence.sharpness_ratio > limits.sharpness_max,
        "noise": evidence.noise_ratio is not None and evidence.noise_ratio > limits.noise_max,
    }
    return [name for name, true in found.items() if true]


def sharpness(pixels: np.ndarray) -> float:
    """The variance of the Laplacian of a photo's luma, in 8-bit levels: what `--skip-if-sharper-than` is compared with.

    Args:
        pixels: (h, w, 3) uint16, sRGB; of large photos the middle counts.
    """
    height, width = pixels.shape[:2]
    return float(_laplacian(_luma(_middle(pixels, min(height, 2 * CROP_PX), min(width, 2 * CROP_PX)) / 257.0)).var())


def _of_result(image: np.ndarray) -> Any:
    height, width = image.shape[1:]
    planes = [libvips().Image.new_from_memory(np.ascontiguousarray(p), width, height, 1, "float") for p in image]
    return planes[0].bandjoin(planes[1:]).linear(127.5, 127.5)


def _of_photo(pixels: np.ndarray) -> Any:
    height, width = pixels.shape[:2]
    return libvips().Image.new_from_memory(pixels, width, height, 3, "ushort").linear(1 / 257, 0)


def _shrunk(image: Any, height: int, width: int) -> Any:
    """(height, width) of 8-bit levels as floats."""
    if (image.height, image.width) != (height, width):
        image = image.resize(width / image.width, vscale=height / image.height, kernel="linear")
        image = image.extract_area(0, 0, width, height) if image.width >= width and image.height >= height else image
    return image.copy_memory()


def _lab(image: Any) -> Any:
    blurred = image.gaussblur(BLUR_PX, precision="float").linear(257, 0).rint().cast("ushort")
    return blurred.copy(interpretation="rgb16").colourspace("lab").copy_memory()


def _worst_block(difference: np.ndarray) -> float:
    rows, columns = difference.shape[0] // BLOCK_PX, difference.shape[1] // BLOCK_PX
    if not rows or not columns:
        return float(difference.mean())
    whole = difference[: rows * BLOCK_PX, : columns * BLOCK_PX]
    return float(whole.reshape(rows, BLOCK_PX, columns, BLOCK_PX).mean((1, 3)).max())


def _luma(values: np.ndarray) -> np.ndarray:
    luma: np.ndarray = values.astype(np.float32) @ _LUMA
    return luma


def _middle(values: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    middle: np.ndarray = values[top : top + height, left : left + width]
    return middle


def _laplacian(luma: np.ndarray) -> np.ndarray:
    here = luma[1:-1, 1:-1]
    curved: np.ndarray = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * here
    return curved


def _noise(luma: np.ndarray) -> float:
    """Standard deviation of the noise (Immerkaer 1996, "Fast noise variance estimation")."""
    lines = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    masked = lines[:, :-2] - 2 * lines[:, 1:-1] + lines[:, 2:]
    return float(np.abs(masked).mean() * math.sqrt(math.pi / 2) / 6)


def _detail(image: np.ndarray, pixels: np.ndarray) -> tuple[float | None, float | None]:
    """Ratios of sharpness and noise, in the middle of the picture; None for a photo that is flat there."""
    height, width = (min(side, CROP_PX) for side in image.shape[1:])
    scale = image.shape[1] / pixels.shape[0]
    after = _luma(_middle(image.transpose(1, 2, 0), height, width) * 127.5 + 127.5)
    small = _middle(pixels, max(4, round(height / scale)), max(4, round(width / scale)))
    enlarged = Image.fromarray(to_8_bits(small)).resize((width, height), Image.Resampling.BICUBIC)
    base, own = float(_laplacian(_luma(np.asarray(enlarged))).var()), _noise(_luma(small / 257.0))
    if base < 1e-3 or own < 1e-3:
        return None, None
    return float(_laplacian(after).var()) / base, _noise(after) / own


def _shift(before: np.ndarray, after: np.ndarray) -> float:
    """Pixels that one picture is away from the other, by phase correlation, to a fraction of a pixel."""
    if min(before.std(), after.std()) < FLAT:
        return 0.0  # nothing in it that could have moved
    height, width = (min(side, SHIFT_PX) for side in before.shape)
    window = np.outer(np.hanning(height), np.hanning(width))
    spectra = [
        np.fft.rfft2((part - part.mean()) * window) for part in (_middle(p, height, width) for p in (before, after))
    ]
    cross = spectra[0] * spectra[1].conj()
    if float(np.abs(cross).max()) < 1e-6:
        return 0.0
    peak = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=(height, width))
    place = np.unravel_index(int(peak.argmax()), peak.shape)
    moves = []
    for axis, side in enumerate((height, width)):
        line = np.take(peak, place[1 - axis], axis=1 - axis)
        at = int(place[axis])
        left, here, right = (float(line[(at + step) % side]) for step in (-1, 0, 1))
        bend = left - 2 * here + right
        fraction = 0.5 * (left - right) / bend if bend else 0.0
        moves.append((at + fraction + side / 2) % side - side / 2)
    return math.hypot(*moves)
