from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import damage
from training.degrade import HEAVY, LIGHT, TRAINING, Recipe, degrade
from training.evaluation import EVALUATION
from training.pictures import draw

RECIPES = {"light": LIGHT, "training": TRAINING, "heavy": HEAVY}


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = ((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return draw(11, 128).pixels


SINGLE = {
    "gaussian": lambda p, r: damage.blur(p, damage.gaussian_kernel(1.2)),
    "stretched": lambda p, r: damage.blur(p, damage.gaussian_kernel(2.0, 0.4, 0.7)),
    "motion": lambda p, r: damage.blur(p, damage.motion_kernel(7, 0.3)),
    "defocus": lambda p, r: damage.blur(p, damage.defocus_kernel(2.5)),
    **{f"shrink {kernel}": lambda p, r, kernel=kernel: damage.shrink(p, 2.5, kernel) for kernel in damage.KERNELS},
    "noise": lambda p, r: damage.sensor_noise(p, r, 0.03, 0.05),
    "grey noise": lambda p, r: damage.sensor_noise(p, r, 0.05, grey=True),
    "grain": lambda p, r: damage.grain(p, r, 0.05, 0.8),
    "jpeg": lambda p, r: damage.jpeg(p, 50),
    "jpeg in full colour": lambda p, r: damage.jpeg(p, 50, full_colour=True),
    "fade": lambda p, r: damage.fade(p, 0.6, 0.1, np.array([1, 0.95, 0.8]), np.array([0.2, -0.1])),
    "cover": lambda p, r: damage.cover(p, np.eye(p.shape[0], p.shape[1], dtype=np.float32), 0.9),
}


@pytest.mark.parametrize("name", SINGLE)
def test_each_kind_of_damage_is_damage(name: str, pixels: np.ndarray) -> None:
    original = damage.from_uint8(pixels)
    kept = original.copy()
    result = SINGLE[name](original, generator(1))
    assert (original == kept).all()
    assert result.shape == original.shape
    assert result.dtype == np.float32
    assert result.min() >= -1e-6
    assert result.max() <= 1 + 1e-6
    assert 10 < psnr(damage.to_uint8(result), pixels) < 45


def test_noise_has_the_deviation_it_is_asked_for() -> None:
    noisy = damage.sensor_noise(np.full((128, 128, 3), 0.5, np.float32), generator(1), 0.03, 0.04)
    assert noisy.std() == pytest.approx((0.03**2 + 0.04**2 * 0.5) ** 0.5, rel=0.03)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 3.0])
def test_kernels_of_one_strength_blur_alike(sigma: float) -> None:
    """Their deviations along x: a line and a disc are scaled to that of the Gaussian."""
    kernels = [damage.gaussian_kernel(sigma), damage.defocus_kernel(2 * sigma), damage.motion_kernel(3.5 * sigma, 0.0)]
    for kernel in kernels:
        x = np.arange(kernel.shape[1]) - kernel.shape[1] // 2
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        assert (kernel.sum(axis=0) @ x**2) ** 0.5 == pytest.approx(sigma, rel=0.25)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_lower_the_psnr(name: str, pixels: np.ndarray) -> None:
    for seed in range(12):
        result = degrade(pixels, generator(seed), RECIPES[name])
        assert psnr(result.pixels, pixels) < 50
        assert result.words


def test_recipes_are_ordered(pixels: np.ndarray) -> None:
    light, training, heavy = (
        np.mean([psnr(degrade(pixels, generator(seed), recipe).pixels, pixels) for seed in range(12)])
        for recipe in RECIPES.values()
    )
    assert light > training + 2 > heavy + 4


def test_the_generator_decides(pixels: np.ndarray) -> None:
    first, again, other = (degrade(pixels, generator(seed), TRAINING) for seed in (1, 1, 2))
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.words == again.words
    assert first.pixels.tobytes() != other.pixels.tobytes()


@given(
    height=st.integers(16, 72),
    width=st.integers(16, 72),
    seed=st.integers(0, 2**32),
    recipe=st.sampled_from(list(RECIPES.values())),
    level=st.sampled_from([0, 128, 255]),
)
@settings(max_examples=60, deadline=None)
def test_any_size_and_flat_pictures_go_through(height: int, width: int, seed: int, recipe: Recipe, level: int) -> None:
    flat = np.full((height, width, 3), level, np.uint8)
    flat[: height // 2] = seed % 256
    result = degrade(flat, generator(seed), recipe)
    assert result.pixels.shape == flat.shape
    assert result.pixels.dtype == np.uint8


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_is_fixed(name: str, pixels: np.ndarray) -> None:
    result, again = EVALUATION[name](pixels), EVALUATION[name](pixels)
    assert result.pixels.tobytes() == again.pixels.tobytes()
    assert result.pixels.dtype == np.uint8
    assert result.pixels.shape == (128 // result.scale, 128 // result.scale, 3)
    assert result.scale == (int(name[1]) if name.startswith("x") else 1)
    if result.scale == 1:
        assert 15 < psnr(result.pixels, pixels) < 40


def test_evaluation_refuses_sizes_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="30 x 33 pixels cannot be divided by 4"):
        EVALUATION["x4"](np.zeros((30, 33, 3), np.uint8))
