from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.tiling import (
    Tiling,
    Window,
    blend,
    gaussian_weights,
    planned_tiling,
    published_tiling,
    ramp_weights,
    tile_grid,
)

Grid = tuple[int, int, list[Window], int]  # height, width, windows, tile


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Any field and any tile, with any stride that lets windows touch."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    tile = draw(st.integers(1, 60))
    stride = draw(st.integers(1, tile))
    return height, width, tile_grid(height, width, tile, stride), tile


@given(grids())
def test_windows_cover_every_cell(grid: Grid) -> None:
    height, width, windows, _ = grid
    seen = torch.zeros(height, width)
    for window in windows:
        window.cut(seen).add_(1)
    assert seen.min() >= 1


@given(grids())
def test_windows_stay_inside_and_have_one_shape(grid: Grid) -> None:
    height, width, windows, tile = grid
    assert {(w.height, w.width) for w in windows} == {(min(tile, height), min(tile, width))}
    assert all(0 <= w.top <= height - w.height and 0 <= w.left <= width - w.width for w in windows)


@given(grids())
def test_windows_are_distinct_and_run_row_by_row(grid: Grid) -> None:
    corners = [(w.top, w.left) for w in grid[2]]
    assert corners == sorted(set(corners))


def test_the_last_window_is_shifted_to_the_edge() -> None:
    assert [w.left for w in tile_grid(16, 36, 16, 8)] == [0, 8, 16, 20]


def test_a_field_smaller_than_the_tile_is_one_window() -> None:
    assert tile_grid(5, 7, 128, 64) == [Window(0, 0, 5, 7)]


@given(grids())
def test_blending_the_windows_of_a_field_gives_the_field(grid: Grid) -> None:
    height, width, windows, _ = grid
    field = torch.linspace(-3, 3, 2 * height * width).reshape(1, 2, height, width)
    blended = blend(gaussian(windows), [w.cut(field) for w in windows], height, width)
    torch.testing.assert_close(blended, field, rtol=1e-5, atol=1e-5)


@given(grids(), st.floats(-10, 10, width=32))
def test_blending_a_constant_gives_that_constant(grid: Grid, value: float) -> None:
    height, width, windows, _ = grid
    blended = blend(gaussian(windows), [torch.full((1, 4, w.height, w.width), value) for w in windows], height, width)
    torch.testing.assert_close(blended, torch.full((1, 4, height, width), value), rtol=1e-5, atol=1e-6)


def test_between_two_windows_the_nearer_one_counts_more() -> None:
    windows = tile_grid(8, 12, 8, 4)
    blended = blend(gaussian(windows), [torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)], 8, 12)[0, 0, 4]
    assert (blended[:4] == 0).all()
    assert (blended[8:] == 1).all()
    assert (blended.diff() >= 0).all()
    assert 0 < blended[4] < blended[7] < 1


def test_parts_are_left_as_they_were() -> None:
    parts = [torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)]
    blend(published_tiling(8, 12, 8, 4), parts, 8, 12)
    assert all((part == 1).all() for part in parts)


@given(st.integers(1, 128), st.integers(1, 128))
def test_weights_are_positive(height: int, width: int) -> None:
    assert (gaussian_weights(height, width) > 0).all()


def test_weights_are_centred_sideways_and_half_a_cell_low_as_published() -> None:
    weights = gaussian_weights(16, 16)
    assert torch.equal(weights, weights.flip(1))
    assert weights[:, 8].argmax() == 8
    torch.testing.assert_close(weights[1:], weights[1:].flip(0))


def gaussian(windows: list[Window]) -> Tiling:
    return Tiling(windows, gaussian_weights(windows[0].height, windows[0].width))


# Planned windows


@st.composite
def plans(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Height, width, largest side and overlap."""
    largest = draw(st.integers(8, 64))
    return draw(st.integers(1, 200)), draw(st.integers(1, 200)), largest, draw(st.integers(0, largest - 1))


def cells(height: int, width: int) -> float:
    return height * width


@given(plans())
def test_planned_windows_cover_every_cell_and_overlap(plan: tuple[int, int, int, int]) -> None:
    height, width, largest, overlap = plan
    windows = planned_tiling(height, width, largest, overlap, cells).windows
    assert len({(w.height, w.width) for w in windows}) == 1
    assert max(windows[0].height, windows[0].width) <= max(largest, 1)
    for length, spans in (
        (height, sorted({(w.top, w.top + w.height) for w in windows})),
        (width, sorted({(w.left, w.left + w.width) for w in windows})),
    ):
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(next_[0] <= span[1] - overlap for span, next_ in itertools.pairwise(spans))


@given(plans())
def test_planned_windows_of_a_field_give_the_field(plan: tuple[int, int, int, int]) -> None:
    height, width, *_ = plan
    tiling = planned_tiling(*plan, cells)
    field = torch.linspace(-3, 3, height * width).reshape(1, 1, height, width)
    blended = blend(tiling, [w.cut(field) for w in tiling.windows], height, width)
    torch.testing.assert_close(blended, field, rtol=1e-5, atol=1e-5)


def test_the_planner_takes_the_cheapest_windows() -> None:
    def cost(height: int, width: int) -> float:  # the full model's, in GFLOP
        n = height * width
        return 78.4 + 0.545 * n + 4.22e-6 * n * n

    windows = planned_tiling(256, 256, 144, 16, cost).windows
    planned = len(windows) * cost(windows[0].height, windows[0].width)
    published = 9 * cost(128, 128)
    assert planned < 1.25 * cost(256, 256) < published


def test_a_ramp_is_smooth_and_flat_inside() -> None:
    weights = ramp_weights(32, 32, 8)[16]
    assert (weights > 0).all() and (weights[8:24] == 1).all()
    assert weights.diff().abs().max() < 0.25
