"""Captions of windows."""

from __future__ import annotations

import itertools

import pytest

from supir_core.errors import InputError
from supir_core.presets import Tile
from supir_core.tile_captions import caption_windows, per_window
from supir_core.tiling import Window, planned_tiling

TILE = Tile("planned", 16, 8)


def test_published_windows_take_their_own() -> None:
    windows = caption_windows(TILE, 24, 32)
    captions = [f"part {n}" for n in range(len(windows))]
    assert len(windows) == 6 and per_window(captions, windows, windows) == captions


def test_planned_windows_take_the_closest() -> None:
    captioned = caption_windows(TILE, 40, 64)
    planned = planned_tiling(40, 64, 16, 8, lambda height, width: float(height * width)).windows
    taken = per_window([f"{n}" for n in range(len(captioned))], planned, captioned)
    assert len(taken) == len(planned)
    for window, name in zip(planned, taken, strict=True):
        chosen = captioned[int(name)]
        assert shared(window, chosen) == max(shared(window, other) for other in captioned)
    corners = [taken[0], taken[-1]]
    assert corners == ["0", f"{len(captioned) - 1}"]


def test_one_is_for_all() -> None:
    assert per_window(["a street"], [Window(0, 0, 8, 8)] * 3, []) == ["a street"]


@pytest.mark.parametrize("count", [0, 2, 7])
def test_another_number_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"{count} captions for 6 windows"):
        windows = caption_windows(TILE, 24, 32)
        per_window(["a"] * count, windows, windows)


def shared(one: Window, other: Window) -> int:
    """Cells that two windows have in common."""
    cells = [
        set(itertools.product(range(w.top, w.top + w.height), range(w.left, w.left + w.width))) for w in (one, other)
    ]
    return len(cells[0] & cells[1])
