"""Random damage as old and small photos have it, in random order and up to twice.

A photo that is found on a disk was often shrunk, filtered and compressed more than once, so a second, milder pass may
follow the first (the idea of Real-ESRGAN's degradations; Wang et al., 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from training import damage
from training.canvas import Mask, filled, stroked
from training.outlines import blob

Span = tuple[float, float]  # from the mildest to the worst


@dataclass(frozen=True)
class Recipe:
    """How often and how badly pictures are damaged; shares are probabilities, spans go from mild to bad."""

    blur_share: float
    blur_px: Span  # standard deviation of a Gaussian, or what comes close to it
    shrink_share: float
    shrink: Span  # factor of the size
    noise_share: float
    noise: Span  # standard deviation in 1/255, for a middle tone
    jpeg_share: float
    quality: Span  # of JPEG
    aged_share: float  # fading, scratches, dust and grain together
    aged: Span  # 0 as new, 1 almost lost
    second_share: float  # of pictures that go through it twice
    skew: float  # 1 all strengths are equally frequent; above, mild ones are more frequent


TRAINING = Recipe(
    blur_share=0.6,
    blur_px=(0.3, 3.0),
    shrink_share=0.6,
    shrink=(1.2, 4.0),
    noise_share=0.6,
    noise=(1, 35),
    jpeg_share=0.7,
    quality=(95, 30),
    aged_share=0.25,
    aged=(0.1, 1.0),
    second_share=0.35,
    skew=1.3,
)
LIGHT = Recipe(
    blur_share=0.4,
    blur_px=(0.3, 1.2),
    shrink_share=0.3,
    shrink=(1.2, 2.0),
    noise_share=0.5,
    noise=(1, 12),
    jpeg_share=0.6,
    quality=(95, 60),
    aged_share=0.1,
    aged=(0.05, 0.4),
    second_share=0.1,
    skew=1.0,
)
HEAVY = Recipe(  # mostly soft: what guidance stays away from has to be what is to become sharper, not smoother
    blur_share=0.9,
    blur_px=(1.5, 4.0),
    shrink_share=0.7,
    shrink=(2.0, 4.0),
    noise_share=0.25,
    noise=(5, 25),
    jpeg_share=0.6,
    quality=(70, 30),
    aged_share=0.2,
    aged=(0.2, 0.8),
    second_share=0.4,
    skew=0.8,
)


class Degraded(NamedTuple):
    """A damaged picture and what it suffered."""

    pixels: np.ndarray  # (H, W, 3) uint8, the size of its original
    words: str  # such as `blurry, slightly noisy`


def degrade(pixels: np.ndarray, rng: np.random.Generator, recipe: Recipe) -> Degraded:
    """Damage a picture at least once.

    Args:
        pixels: (H, W, 3) uint8; at least 16 pixels on each side.
        rng: all randomness.
        recipe: what may happen.
    """
    picture, words = damage.from_uint8(pixels), dict[str, float]()
    share = {
        _blurred: recipe.blur_share,
        _shrunk: recipe.shrink_share,
        _noisy: recipe.noise_share,
        _compressed: recipe.jpeg_share,
        _aged: recipe.aged_share,
    }
    mildness = 1.0
    for _ in range(2 if rng.random() < recipe.second_share else 1):
        steps = [step for step, chance in share.items() if rng.random() < chance]
        if not steps and not words:
            steps = [_blurred]
        for i in rng.permutation(len(steps)):
            strength = mildness * rng.random() ** recipe.skew  # [0, 1]
            picture, word = steps[i](picture, rng, recipe, strength)
            words[word] = max(strength, words.get(word, 0.0))
        mildness = 0.5
    return Degraded(damage.to_uint8(picture), ", ".join(_graded(word, strength) for word, strength in words.items()))


Step = Callable[[np.ndarray, np.random.Generator, Recipe, float], tuple[np.ndarray, str]]


def _graded(word: str, strength: float) -> str:
    return f"slightly {word}" if strength < 0.25 else f"very {word}" if strength > 0.7 else word


def _between(span: Span, strength: float) -> float:
    return span[0] + (span[1] - span[0]) * strength


def _blurred(picture: np.ndarray, rng: np.random.Generator, recipe: Recipe, strength: float) -> tuple[np.ndarray, str]:
    sigma, kind, angle = _between(recipe.blur_px, strength), rng.random(), rng.uniform(0, np.pi)
    if kind < 0.7:
        aspect = 1.0 if kind < 0.4 else rng.uniform(0.4, 1.0)
        kernel = damage.gaussian_kernel(sigma, aspect, angle)
    elif kind < 0.85:
        kernel = damage.motion_kernel(sigma * 3.5, angle)  # a line's deviation is its length over the root of 12
    else:
        kernel = damage.defocus_kernel(sigma * 2)  # a disc's is half its radius
    return damage.blur(picture, kernel), "blurry"


def _shrunk(picture: np.ndarray, rng: np.random.Generator, recipe: Recipe, strength: float) -> tuple[np.ndarray, str]:
    down = str(rng.choice(list(damage.KERNELS)))
    up = "bicubic" if rng.random() < 0.7 else "bilinear"
    return damage.shrink(picture, _between(recipe.shrink, strength), down, up), "low-resolution"


def _noisy(picture: np.ndarray, rng: np.random.Generator, recipe: Recipe, strength: float) -> tuple[np.ndarray, str]:
    deviation, shot = _between(recipe.noise, strength) / 255, rng.random()  # shot: the share that grows with light
    grey = rng.random() < 0.4
    return damage.sensor_noise(picture, rng, deviation * (1 - shot), deviation * shot * 1.4, grey=grey), "noisy"


def _compressed(
    picture: np.ndarray, rng: np.random.Generator, recipe: Recipe, strength: float
) -> tuple[np.ndarray, str]:
    quality = round(_between(recipe.quality, strength))
    return damage.jpeg(picture, quality, full_colour=rng.random() < 0.25), "compressed"


def _aged(picture: np.ndarray, rng: np.random.Generator, recipe: Recipe, strength: float) -> tuple[np.ndarray, str]:
    age = _between(recipe.aged, strength)
    if rng.random() < 0.8:
        yellow = rng.uniform(0.0, 0.3) * age
        cast = np.array([1.0, 1 - yellow * 0.35, 1 - yellow]) * (1 + rng.normal(0, 0.04 * age, 3))
        contrast, black = 1 - rng.uniform(0.1, 0.55) * age, rng.uniform(0, 0.15) * age
        picture = damage.fade(picture, contrast, black, cast, rng.uniform(-0.5, 0.5, 2) * age)
    if rng.random() < 0.6:
        picture = damage.grain(picture, rng, rng.uniform(0.01, 0.08) * age, rng.uniform(0.5, 1.2))
    if rng.random() < 0.6:
        picture = _scratched(picture, rng, age)
    return picture, "aged"


def _scratched(picture: np.ndarray, rng: np.random.Generator, age: float) -> np.ndarray:
    """With thin, mostly upright scratches, and with dust and hairs."""
    height, width = picture.shape[:2]
    side = max(height, width)
    scale = side / 256  # as many per area, whatever the picture's size
    level = 0.9 if rng.random() < 0.7 else 0.08
    for _ in range(int(rng.poisson(4 * age * scale + 0.5))):
        x, y = rng.uniform(0, width), rng.uniform(-0.2, 0.8) * height
        way = np.linspace(0, rng.uniform(0.1, 1.2) * height, 12)
        path = np.stack([x + rng.normal(0, 0.04) * way + np.cumsum(rng.normal(0, 0.25, 12)), y + way], axis=1)
        mask = stroked([path], side, rng.uniform(0.5, 1.8))
        picture = damage.cover(picture, _full(mask, height, width) * np.float32(rng.uniform(0.25, 0.9)), level)
    specks = [
        blob(rng) * np.exp(rng.uniform(np.log(0.5), np.log(2.5))) + rng.uniform((0, 0), (width, height))
        for _ in range(int(rng.poisson(25 * age * scale * scale)))
    ]
    if specks:
        mask = filled(specks, side)
        picture = damage.cover(picture, _full(mask, height, width) * np.float32(rng.uniform(0.4, 1)), level)
    return picture


def _full(mask: Mask | None, height: int, width: int) -> np.ndarray:
    """(height, width) alpha of a mask that was drawn on a square."""
    side = max(height, width)
    alpha = np.zeros((side, side), np.float32)
    if mask is not None:
        rows, columns = mask.alpha.shape
        alpha[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.alpha
    return alpha[:height, :width]
