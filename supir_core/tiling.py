"""Overlapping windows over a latent: where they lie, how their results are blended into one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GAUSSIAN_VARIANCE = 0.01  # in units of the window's side
SIDE_STEP = 8  # planned windows have sides of a multiple of this many cells

WindowCost = Callable[[int, int], float]
"""(height, width) of a window -> its cost."""


class Window(NamedTuple):
    """A rectangle of latent cells."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, field: Tensor) -> Tensor:
        """The window's part of (..., h, w)."""
        return field[..., self.top : self.top + self.height, self.left : self.left + self.width]


def tile_grid(height: int, width: int, tile: int, stride: int) -> list[Window]:
    """Windows that cover a field, row by row; the last of a row or column is shifted to the edge.

    Args:
        height: of the field, at least 1.
        width: of the field, at least 1.
        tile: side of a window; a shorter side of the field is taken whole.
        stride: from one window to the next, 1 to `tile`.
    """
    tops, tall = _starts(height, tile, stride)
    lefts, wide = _starts(width, tile, stride)
    return [Window(top, left, tall, wide) for top in tops for left in lefts]


def _starts(length: int, tile: int, stride: int) -> tuple[list[int], int]:
    tile = min(length, tile)
    starts = list(range(0, length - tile + 1, stride))
    if starts[-1] + tile < length:
        starts.append(length - tile)
    return starts, tile


class Tiling(NamedTuple):
    """How a field is cut, and how its windows' results are weighted."""

    windows: list[Window]  # all of one shape
    weights: Tensor  # (window height, window width) float64 > 0


def published_tiling(height: int, width: int, size: int, stride: int) -> Tiling:
    """Windows of one size, blended by a Gaussian: the published scheme."""
    windows = tile_grid(height, width, size, stride)
    return Tiling(windows, gaussian_weights(windows[0].height, windows[0].width))


def planned_tiling(height: int, width: int, largest: int, overlap: int, cost: WindowCost) -> Tiling:
    """The cheapest evenly spread windows that cover a field, blended over their overlaps.

    Sides are `largest` less multiples of `SIDE_STEP`, so that all photos share a few static shapes; a side of the field
    that is not larger is taken whole.

    Args:
        height: of the field, at least 1.
        width: of the field, at least 1.
        largest: side of a window.
        overlap: neighbours share at least this many cells; less than `largest`.
        cost: of one window, in any unit.
    """

    def total(shape: tuple[int, int]) -> tuple[float, int]:
        count = _count(height, shape[0], overlap) * _count(width, shape[1], overlap)
        return count * cost(*shape), count

    tall, wide = min(itertools.product(_sides(height, largest, overlap), _sides(width, largest, overlap)), key=total)
    tops, lefts = _spread(height, tall, overlap), _spread(width, wide, overlap)
    windows = [Window(top, left, tall, wide) for top in tops for left in lefts]
    return Tiling(windows, ramp_weights(tall, wide, max(1, overlap)))


def _sides(length: int, largest: int, overlap: int) -> list[int]:
    return [length] if length <= largest else list(range(largest, max(overlap, largest // 2), -SIDE_STEP))


def _count(length: int, side: int, overlap: int) -> int:
    return 1 if side >= length else math.ceil((length - overlap) / (side - overlap))


def _spread(length: int, side: int, overlap: int) -> list[int]:
    """Starts of evenly spread windows; the first and the last lie at the edges."""
    gaps = _count(length, side, overlap) - 1
    return [(length - side) * i // gaps for i in range(gaps + 1)] if gaps else [0]


def ramp_weights(height: int, width: int, overlap: int) -> Tensor:
    """(height, width) float64 > 0: a window's weight, 1 inside, falling over `overlap` cells at its borders."""

    def ramp(length: int) -> Tensor:
        cells = torch.arange(length, dtype=torch.float64)
        from_edge = torch.minimum(cells, length - 1 - cells) + 0.5
        return torch.sin((from_edge / overlap).clamp(max=1) * math.pi / 2) ** 2

    return torch.outer(ramp(height), ramp(width))


def gaussian_weights(height: int, width: int) -> Tensor:
    """(height, width) float64 > 0: the weight of a window's cells, highest in the middle.

    The centre lies at (width - 1) / 2 but at height / 2: published tiling is off by half a cell, and kept (PARITY.md).
    """

    def bell(length: int, centre: float) -> np.ndarray:
        cells = np.arange(length, dtype=np.float64)
        spread = np.sqrt(2 * np.pi * GAUSSIAN_VARIANCE)
        return np.asarray(np.exp(-((cells - centre) ** 2) / length**2 / (2 * GAUSSIAN_VARIANCE)) / spread)

    return torch.from_numpy(np.outer(bell(height, height / 2), bell(width, (width - 1) / 2)))


def blend(tiling: Tiling, parts: Sequence[Tensor], height: int, width: int) -> Tensor:
    """One field from the results of its windows.

    Args:
        tiling: of the field.
        parts: (1, C, window height, window width) each, in the order of the windows.
        height: of the field.
        width: of the field.

    Returns:
        (1, C, height, width), the parts' dtype.
    """
    if len(parts) == 1:
        return parts[0]
    total = parts[0].new_zeros(*parts[0].shape[:-2], height, width)
    weight = torch.zeros_like(total)
    bell = tiling.weights.to(total)
    for window, part in zip(tiling.windows, parts, strict=True):
        window.cut(total).add_(part * bell)
        window.cut(weight).add_(bell)
    return total / weight
