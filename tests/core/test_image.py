from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.image import resize_back, shrunk, to_tensor, to_uint8


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_pixels_come_back_as_they_were_when_the_size_stays(height: int, width: int, seed: int) -> None:
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3), np.uint8)
    back = to_uint8(resize_back(to_tensor(pixels, height, width), height, width))
    assert np.array_equal(back, pixels)


def test_black_is_minus_one_and_white_is_one() -> None:
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    tensor = to_tensor(pixels, 1, 2)
    assert tensor.shape == (1, 3, 1, 2)
    assert tensor.dtype == torch.float32
    assert tensor[0, :, 0].tolist() == [[-1, 1]] * 3


def test_height_and_width_are_not_mixed_up() -> None:
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[:20] = 255
    tensor = to_tensor(tall, 128, 64)
    assert tensor.shape == (1, 3, 128, 64)
    assert tensor[..., :32, :].min() > 0.99 > -0.99 > tensor[..., 96:, :].max()
    assert resize_back(tensor, 40, 20).shape == (1, 3, 40, 20)


def test_resizing_does_not_overshoot_the_range() -> None:
    edge = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(1, 3, 4, 4)
    resized = resize_back(edge, 16, 16)
    assert resized.min() == -1
    assert resized.max() == 1


@pytest.mark.parametrize(
    ("level", "expected"), [(99.4, 99), (99.6, 100), (0.4, 0), (254.6, 255), (-30.0, 0), (300.0, 255)]
)
def test_eight_bits_are_rounded_and_clipped(level: float, expected: int) -> None:
    picture = torch.full((1, 3, 1, 1), level / 127.5 - 1)
    assert to_uint8(picture).tolist() == [[[expected] * 3]]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1000, 2000, (512, 1024)), (1200, 800, (768, 512)), (512, 900, (512, 900)), (3, 9, (3, 9))],
)
def test_pictures_for_captions_have_a_short_side_of_at_most_512(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    assert shrunk(np.zeros((height, width, 3), np.uint8)).shape == (*expected, 3)
