"""Textures: (size, size) float32 around 0 with a standard deviation near 1.

`TEXTURES` has, by name, how often each one is taken, and what makes it: those of nature are the most frequent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def noise(rng: np.random.Generator, size: int, exponent: float, stretch: float = 1.0) -> np.ndarray:
    """1/f noise: amplitude falls like frequency to the power -exponent; stretch makes it run along one side."""
    y = np.fft.fftfreq(size)[:, None] * stretch
    x = np.fft.rfftfreq(size)[None]
    frequency = np.sqrt(x * x + y * y)
    frequency[0, 0] = 1
    amplitude = (frequency**-exponent).astype(np.float32)
    amplitude[0, 0] = 0
    waves = rng.standard_normal((2, *amplitude.shape), np.float32) * amplitude
    return _normal(np.fft.irfft2(waves[0] + 1j * waves[1], s=(size, size)).astype(np.float32))


def _normal(field: np.ndarray) -> np.ndarray:
    field = field - field.mean()
    return np.asarray(field / (field.std() + 1e-6), np.float32)


def _grid(rng: np.random.Generator, size: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Two coordinates at right angles, in pixels."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def rough(rng: np.random.Generator, size: int) -> np.ndarray:
    """Plaster, soil, bark: fine noise."""
    return noise(rng, size, rng.uniform(0.5, 1.1))


def cloudy(rng: np.random.Generator, size: int) -> np.ndarray:
    """Clouds and stains: soft noise."""
    return noise(rng, size, rng.uniform(1.3, 2.0))


def brushed(rng: np.random.Generator, size: int) -> np.ndarray:
    """Fur, grass, brushed metal: noise along a direction."""
    field = noise(rng, size, rng.uniform(0.6, 1.2), stretch=rng.uniform(4, 12))
    return field if rng.random() < 0.5 else np.ascontiguousarray(field.T)


def stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Gratings, wood grain: waves that wobble, with soft to sharp edges."""
    along, _ = _grid(rng, size, rng.uniform(0, np.pi))
    period = np.exp(rng.uniform(np.log(3.5), np.log(28)))
    wobble = noise(rng, size, 2.0) * rng.choice([0.0, 0.3, 1.5])
    waves = np.sin(along * np.float32(2 * np.pi / period) + wobble)
    return _normal(np.tanh(waves * rng.uniform(0.3, min(5.0, period / 3))))


def weave(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloth and baskets: threads over and under each other."""
    along, across = _grid(rng, size, rng.choice([0.0, np.pi / 4, rng.uniform(0, np.pi)]))
    period = np.float32(np.pi / np.exp(rng.uniform(np.log(2.5), np.log(8))))
    warp, weft = np.sin(along * period), np.sin(across * period)
    return _normal(np.where(warp * weft > 0, warp * warp, weft * weft) + 0.1 * warp)


def speckle(rng: np.random.Generator, size: int) -> np.ndarray:
    """Spots, gravel, lichen: noise above a threshold."""
    field = noise(rng, size, rng.uniform(0.5, 1.2))
    return _normal(np.tanh((field - rng.uniform(0, 1.6)) * rng.uniform(2, 6)))


def bricks(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rows of bricks or tiles, each of its own shade, with joints."""
    height = np.exp(rng.uniform(np.log(6), np.log(32)))
    width = height * rng.choice([1.0, 2.0, 2.8])
    y = np.arange(size)[:, None] / height + rng.random()
    row = np.floor(y).astype(int)
    x = np.arange(size)[None] / width + rng.choice([0.0, 0.5]) * (row % 2) + rng.random()
    column = np.floor(x).astype(int)
    shade = rng.normal(0, rng.uniform(0.1, 0.6), (64, 64))[row % 64, column % 64]
    edge = np.minimum(np.minimum(y % 1, 1 - y % 1) * height, np.minimum(x % 1, 1 - x % 1) * width)  # in pixels
    joint = np.clip(edge - rng.uniform(0, max(0.3, height / 12)), 0, 1) * rng.choice([-1.2, 1.5, 2.0])
    return _normal(shade + joint)


def cells(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cobbles, scales, leather: distance to the nearest of scattered points."""
    pitch = np.exp(rng.uniform(np.log(6), np.log(40)))
    count = int(size / pitch) + 3
    points = rng.uniform(0, 1, (2, count, count)).astype(np.float32)
    cell = np.arange(size, dtype=np.float32) / np.float32(pitch)
    index, inside = cell.astype(int), cell % 1
    nearest = second = np.full((size, size), 9, np.float32)
    for dy in range(3):
        for dx in range(3):
            rows, columns = (index + dy)[:, None], (index + dx)[None]
            y = points[0][rows, columns] + (dy - 1) - inside[:, None]
            x = points[1][rows, columns] + (dx - 1) - inside[None]
            distance = x * x + y * y
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    if rng.random() < 0.5:
        return _normal(-nearest)
    return _normal(np.tanh((np.sqrt(second) - np.sqrt(nearest)) * np.float32(rng.uniform(2, 8))))


BUILT = {"stripes", "woven cloth", "a brick wall"}
NATURAL_MATERIALS = {"sky", "foliage", "sand", "water", "dry grass", "skin"}  # never seen with those

TEXTURES: dict[str, tuple[float, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "rough surfaces": (1.6, rough),
    "soft stains": (0.6, cloudy),
    "brushed fibres": (1.2, brushed),
    "stripes": (0.6, stripes),
    "woven cloth": (0.5, weave),
    "speckles": (1.0, speckle),
    "a brick wall": (0.5, bricks),
    "cobbles": (0.7, cells),
}
