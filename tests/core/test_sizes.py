from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supir_core.sizes import SizePlan, plan_size

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
