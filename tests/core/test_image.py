from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.image import SizePlan, plan_size, resize_back, to_tensor, to_uint8

sides = st.integers(1, 6000)


@pytest.mark.parametrize(
    ("height", "width", "upscale", "min_size_px", "short_side_px", "plan"),
    [
        (512, 512, 2, 1024, None, SizePlan(1024, 1024, 1024, 1024)),
        (480, 640, 1, 1024, None, SizePlan(1024, 1344, 480, 640)),  # the networks see more than comes out
        (1500, 2000, 1, 1024, None, SizePlan(1472, 1984, 1500, 2000)),  # to the nearest multiple of 64, here down
        (160, 96, 1, 64, None, SizePlan(128, 128, 160, 96)),  # 2.5 and 1.5 multiples: half to even
        (600, 800, 3, 1024, 768, SizePlan(768, 1024, 768, 1024)),  # a short side replaces the other two
        (600, 800, 1, 1024, 512, SizePlan(512, 704, 512, 683)),
        (1, 1, 0.05, 64, None, SizePlan(64, 64, 1, 1)),  # never nothing
    ],
)
def test_the_size_rule(
    height: int, width: int, upscale: float, min_size_px: int, short_side_px: int | None, plan: SizePlan
) -> None:
    assert plan_size(height, width, upscale=upscale, min_size_px=min_size_px, short_side_px=short_side_px) == plan


@given(sides, sides, st.floats(0.05, 16), st.integers(64, 2048), st.none() | st.integers(16, 4096))
def test_the_networks_see_multiples_of_64(
    height: int, width: int, upscale: float, min_size_px: int, short_side_px: int | None
) -> None:
    plan = plan_size(height, width, upscale=upscale, min_size_px=min_size_px, short_side_px=short_side_px)
    assert all(side >= 64 and side % 64 == 0 for side in plan[:2])
    assert all(side >= 1 for side in plan[2:])
    if short_side_px is None:
        assert min(plan[:2]) >= min_size_px - 32  # at least the minimum, but for the rounding


@given(sides, sides, st.floats(0.05, 16), st.none() | st.integers(16, 4096))
def test_a_turned_photo_gets_a_turned_plan(height: int, width: int, upscale: float, short_side_px: int | None) -> None:
    upright = plan_size(height, width, upscale=upscale, min_size_px=256, short_side_px=short_side_px)
    turned = plan_size(width, height, upscale=upscale, min_size_px=256, short_side_px=short_side_px)
    assert turned == (upright[1], upright[0], upright[3], upright[2])


@given(sides, sides, st.integers(16, 4096))
def test_a_given_short_side_is_the_results(height: int, width: int, short_side_px: int) -> None:
    plan = plan_size(height, width, upscale=2, min_size_px=64, short_side_px=short_side_px)
    assert min(plan.height, plan.width) == short_side_px


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
