"""Fixed damage to measure restoration by: the same picture is always damaged in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from training import damage

SEED = 20261122  # of the noise; pictures of one size share it


class Damaged(NamedTuple):
    """What a restorer is given, and what it has to do about the size."""

    pixels: np.ndarray  # (H / scale, W / scale, 3) uint8
    scale: int  # the original's sides over these: 1, 2 or 4


def _noisy(pixels: np.ndarray, deviation: float) -> np.ndarray:
    """With Gaussian noise in colour; its deviation is in 1/255."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    return damage.to_uint8(damage.sensor_noise(damage.from_uint8(pixels), rng, deviation / 255))


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return damage.to_uint8(damage.jpeg(damage.from_uint8(pixels), quality))


def _blur(pixels: np.ndarray, sigma_px: float) -> np.ndarray:
    return damage.to_uint8(damage.blur(damage.from_uint8(pixels), damage.gaussian_kernel(sigma_px)))


def _small(pixels: np.ndarray, scale: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"{height} x {width} pixels cannot be divided by {scale}")
    return np.asarray(Image.fromarray(pixels).resize((width // scale, height // scale), Image.Resampling.BICUBIC))


EVALUATION: dict[str, Callable[[np.ndarray], Damaged]] = {
    "x2": lambda pixels: Damaged(_small(pixels, 2), 2),
    "x4": lambda pixels: Damaged(_small(pixels, 4), 4),
    "blur": lambda pixels: Damaged(_blur(pixels, 2.0), 1),
    "noise": lambda pixels: Damaged(_noisy(pixels, 25), 1),
    "jpeg30": lambda pixels: Damaged(_jpeg(pixels, 30), 1),
    "jpeg60": lambda pixels: Damaged(_jpeg(pixels, 60), 1),
    "noise-jpeg": lambda pixels: Damaged(_jpeg(_noisy(pixels, 15), 50), 1),
    "x2-noise-jpeg": lambda pixels: Damaged(_jpeg(_noisy(_small(pixels, 2), 10), 60), 2),
}
