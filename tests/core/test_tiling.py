from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.tiling import Window, blend, gaussian_weights, tile_grid

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
    blended = blend(windows, [w.cut(field) for w in windows], height, width)
    torch.testing.assert_close(blended, field, rtol=1e-5, atol=1e-5)


@given(grids(), st.floats(-10, 10, width=32))
def test_blending_a_constant_gives_that_constant(grid: Grid, value: float) -> None:
    height, width, windows, _ = grid
    blended = blend(windows, [torch.full((1, 4, w.height, w.width), value) for w in windows], height, width)
    torch.testing.assert_close(blended, torch.full((1, 4, height, width), value), rtol=1e-5, atol=1e-6)


def test_between_two_windows_the_nearer_one_counts_more() -> None:
    windows = tile_grid(8, 12, 8, 4)
    blended = blend(windows, [torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)], 8, 12)[0, 0, 4]
    assert (blended[:4] == 0).all()
    assert (blended[8:] == 1).all()
    assert (blended.diff() >= 0).all()
    assert 0 < blended[4] < blended[7] < 1


def test_parts_are_left_as_they_were() -> None:
    parts = [torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)]
    blend(tile_grid(8, 12, 8, 4), parts, 8, 12)
    assert all((part == 1).all() for part in parts)


@given(st.integers(1, 128), st.integers(1, 128))
def test_weights_are_positive(height: int, width: int) -> None:
    assert (gaussian_weights(height, width) > 0).all()


def test_weights_are_centred_sideways_and_half_a_cell_low_as_published() -> None:
    weights = gaussian_weights(16, 16)
    assert torch.equal(weights, weights.flip(1))
    assert weights[:, 8].argmax() == 8
    torch.testing.assert_close(weights[1:], weights[1:].flip(0))
