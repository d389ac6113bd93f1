"""Overlapping windows over a latent: where they lie, how their results are blended into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GAUSSIAN_VARIANCE = 0.01  # in units of the window's side


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


def gaussian_weights(height: int, width: int) -> Tensor:
    """(height, width) float64 > 0: the weight of a window's cells, highest in the middle.

    The centre lies at (width - 1) / 2 but at height / 2: published tiling is off by half a cell, and kept (PARITY.md).
    """

    def bell(length: int, centre: float) -> np.ndarray:
        cells = np.arange(length, dtype=np.float64)
        spread = np.sqrt(2 * np.pi * GAUSSIAN_VARIANCE)
        return np.asarray(np.exp(-((cells - centre) ** 2) / length**2 / (2 * GAUSSIAN_VARIANCE)) / spread)

    return torch.from_numpy(np.outer(bell(height, height / 2), bell(width, (width - 1) / 2)))


def blend(windows: Sequence[Window], parts: Sequence[Tensor], height: int, width: int) -> Tensor:
    """One field from the results of its windows, weighted by `gaussian_weights`.

    Args:
        windows: as `tile_grid` gave them; together they cover the field.
        parts: (1, C, window height, window width) each.
        height: of the field.
        width: of the field.

    Returns:
        (1, C, height, width), the parts' dtype.
    """
    if len(windows) == 1:
        return parts[0]
    total = parts[0].new_zeros(*parts[0].shape[:-2], height, width)
    weight = torch.zeros_like(total)
    bell = gaussian_weights(windows[0].height, windows[0].width).to(total)
    for window, part in zip(windows, parts, strict=True):
        window.cut(total).add_(part * bell)
        window.cut(weight).add_(bell)
    return total / weight
