from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from training import textures
from training.pictures import ALL_SCENES, draw
from training.studio import Studio

SIZE = 128
COUNT = 50


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [draw(seed, SIZE).pixels for seed in range(COUNT)]


@pytest.mark.parametrize("seed", [0, 1, [7, 3, 1]])
def test_a_seed_is_a_picture(seed: int | list[int]) -> None:
    first, again = draw(seed, 96), draw(seed, 96)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.caption == again.caption


def test_global_random_numbers_are_left_alone() -> None:
    numpy_before, python_before = np.random.get_state()[1], random.getstate()
    draw(5, 64)
    assert (np.random.get_state()[1] == numpy_before).all()
    assert random.getstate() == python_before


def test_other_seeds_are_other_pictures(pictures: list[np.ndarray]) -> None:
    assert len({picture.tobytes() for picture in pictures}) == COUNT


@pytest.mark.parametrize("size", [32, 64, 200, 320])
def test_pictures_come_in_any_size(size: int) -> None:
    for seed in range(3):
        pixels, caption = draw(seed, size)
        assert pixels.shape == (size, size, 3)
        assert pixels.dtype == np.uint8
        assert caption.endswith("tones.")


@pytest.mark.parametrize("scene", ALL_SCENES)
def test_each_scene_says_what_it_paints(scene: str) -> None:
    studio = Studio(np.random.Generator(np.random.PCG64(3)), 64)
    blank = studio.canvas.light.copy()
    assert all(ALL_SCENES[scene][1](studio))
    assert np.isfinite(studio.canvas.light).all()
    assert (studio.canvas.light != blank).mean() > 0.5


@pytest.mark.parametrize("name", textures.TEXTURES)
def test_textures_are_normalised(name: str) -> None:
    for seed in range(3):
        field = textures.TEXTURES[name][1](np.random.Generator(np.random.PCG64(seed)), 96)
        assert field.shape == (96, 96)
        assert field.dtype == np.float32
        assert abs(field.mean()) < 0.01
        assert 0.9 < field.std() < 1.1


def spectrum_exponent(picture: np.ndarray) -> float:
    """The a of an amplitude spectrum that falls like 1/f**a."""
    size = picture.shape[0]
    grey = picture.mean(axis=2)
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    edges = np.geomspace(2 / size, 0.4, 14)
    bands = [power[(frequency >= low) & (frequency < high)].mean() for low, high in itertools.pairwise(edges)]
    return float(-np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(bands), 1)[0] / 2)


def test_spectra_fall_as_those_of_photos(pictures: list[np.ndarray]) -> None:
    """Photos have exponents around 1.2."""
    exponents = [spectrum_exponent(picture) for picture in pictures]
    assert 0.7 < np.mean(exponents) < 1.6
    assert np.quantile(exponents, 0.1) > 0.5  # none is noise


def test_channels_are_correlated_as_in_photos(pictures: list[np.ndarray]) -> None:
    red_green, green_blue = [], []
    for picture in pictures:
        correlation = np.corrcoef(picture.reshape(-1, 3).T)
        red_green.append(correlation[0, 1])
        green_blue.append(correlation[1, 2])
    assert np.mean(red_green) > 0.8
    assert np.mean(green_blue) > 0.8


def test_exposures_vary_and_little_is_clipped(pictures: list[np.ndarray]) -> None:
    means = [picture.mean() for picture in pictures]
    assert np.std(means) > 12
    assert np.mean([(picture == 255).mean() for picture in pictures]) < 0.05
    assert np.mean([picture.std() for picture in pictures]) > 35  # photos have some 40 to 75


def test_some_are_grey(pictures: list[np.ndarray]) -> None:
    grey = [np.ptp(picture.astype(int), axis=2).max() == 0 for picture in pictures]
    assert 1 <= sum(grey) <= COUNT // 4
