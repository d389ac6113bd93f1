"""Single kinds of damage, each a function of (H, W, 3) float32 in [0, 1], which it leaves as it is."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

KERNELS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def gaussian_kernel(sigma_px: float, aspect: float = 1.0, angle: float = 0.0) -> np.ndarray:
    """(k, k) of sum 1; across the angle (radians) it is `aspect` times as wide as along it."""
    along, across = _grid(max(1, int(np.ceil(3 * sigma_px))), angle)
    return _unit(np.exp(-0.5 * ((along / sigma_px) ** 2 + (across / (sigma_px * aspect)) ** 2)))


def motion_kernel(length_px: float, angle: float) -> np.ndarray:
    """(k, k) of sum 1: a line, as a moving camera draws it."""
    along, across = _grid(int(np.ceil(length_px / 2)) + 1, angle)
    return _unit(np.clip(length_px / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1))


def defocus_kernel(radius_px: float) -> np.ndarray:
    """(k, k) of sum 1: a disc, as a lens out of focus draws points."""
    x, y = _grid(int(np.ceil(radius_px)) + 1, 0.0)
    return _unit(np.clip(radius_px + 0.5 - np.hypot(x, y), 0, 1))


def _grid(reach: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _unit(kernel: np.ndarray) -> np.ndarray:
    return np.asarray(kernel / kernel.sum(), np.float32)


def blur(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolved; the picture is mirrored at its borders."""
    reach = kernel.shape[0] // 2
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    planes = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[:, None]  # (3, 1, H, W)
    blurred = F.conv2d(planes, torch.from_numpy(kernel)[None, None])
    return np.ascontiguousarray(blurred[:, 0].numpy().transpose(1, 2, 0))


def resize(pixels: np.ndarray, height: int, width: int, kernel: str) -> np.ndarray:
    """Resized without rounding to 8 bits; clipped, as bicubic and lanczos overshoot."""
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize((width, height), KERNELS[kernel]))
        for c in range(3)
    ]
    return np.clip(np.stack(planes, axis=2), 0, 1)


def shrink(pixels: np.ndarray, factor: float, down: str, up: str = "bicubic") -> np.ndarray:
    """Resized to 1/factor and back: what an enlarged small picture looks like."""
    height, width = pixels.shape[:2]
    small = resize(pixels, max(1, round(height / factor)), max(1, round(width / factor)), down)
    return resize(small, height, width, up)


def sensor_noise(
    pixels: np.ndarray, rng: np.random.Generator, read: float, shot: float = 0.0, *, grey: bool = False
) -> np.ndarray:
    """With noise of variance read**2 + shot**2 * signal: the normal limit of Poisson and Gaussian noise."""
    height, width = pixels.shape[:2]
    noise = rng.standard_normal((height, width, 1 if grey else 3), np.float32)
    deviation = np.sqrt(read**2 + shot**2 * (pixels.mean(axis=2, keepdims=True) if grey else pixels))
    return np.clip(pixels + noise * deviation.astype(np.float32), 0, 1)


def grain(pixels: np.ndarray, rng: np.random.Generator, strength: float, size_px: float) -> np.ndarray:
    """With film grain: grey noise of some size, strongest in the middle tones."""
    height, width = pixels.shape[:2]
    field = rng.standard_normal((height, width, 1), np.float32)
    field = blur(np.repeat(field, 3, axis=2), gaussian_kernel(size_px))
    brightness = pixels.mean(axis=2, keepdims=True)
    visible = 0.4 + 2.4 * brightness * (1 - brightness)
    return np.clip(pixels + field / field.std() * visible * np.float32(strength), 0, 1)


def jpeg(pixels: np.ndarray, quality: int, *, full_colour: bool = False) -> np.ndarray:
    """Through a JPEG file in memory; colours at half resolution unless `full_colour`."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0 if full_colour else 2)
    return from_uint8(np.asarray(Image.open(buffer)))


def fade(pixels: np.ndarray, contrast: float, black: float, cast: np.ndarray, uneven: np.ndarray) -> np.ndarray:
    """Aged: less contrast, raised blacks, a cast.

    Args:
        pixels: the picture.
        contrast: what is left of it, in (0, 1].
        black: where black lies now, in [0, 1).
        cast: (3,) factors of red, green and blue; (1, 0.95, 0.8) is yellowed.
        uneven: (2,) in [-1, 1], by how much more it faded to the right and down.
    """
    height, width = pixels.shape[:2]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    left = np.clip(contrast * (1 - (x * uneven[0] + y * uneven[1])), 0.05, 1)[..., None]
    paper = black + (1 - contrast) * 0.45  # faded prints become paler rather than darker
    return np.clip((paper + (pixels - paper) * left + black * (1 - pixels)) * cast, 0, 1).astype(np.float32)


def cover(pixels: np.ndarray, alpha: np.ndarray, level: float) -> np.ndarray:
    """With an opaque grey (`level` in [0, 1]) where alpha, (H, W) in [0, 1], says so: scratches and dust."""
    return pixels + (np.float32(level) - pixels) * alpha[..., None]


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8, rounded."""
    return (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)


def from_uint8(pixels: np.ndarray) -> np.ndarray:
    """uint8 -> float32 in [0, 1]."""
    return pixels.astype(np.float32) / 255
