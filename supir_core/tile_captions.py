"""Captions per tile: which parts of a photo get one of their own, and which of them a sampling window takes."""

from __future__ import annotations

from collections.abc import Sequence

from supir_core.errors import InputError
from supir_core.presets import Tile
from supir_core.tiling import Window, tile_grid


def caption_windows(tile: Tile, height: int, width: int) -> list[Window]:
    """The windows of a latent that are captioned: the published ones, also where sampling plans its own.

    Args:
        tile: of the preset.
        height: of the latent, in cells.
        width: of the latent, in cells.
    """
    return tile_grid(height, width, tile.size_lat, tile.stride_lat)


def per_window(captions: Sequence[str], windows: Sequence[Window], captioned: Sequence[Window]) -> list[str]:
    """The caption of the whole, or for every sampling window the one of the captioned window that lies closest.

    Args:
        captions: one, or one per captioned window.
        windows: that are sampled.
        captioned: as `caption_windows` gives them.

    Raises:
        InputError: another number of captions (`captions`).
    """
    if len(captions) == 1:
        return list(captions)
    if len(captions) != len(captioned):
        raise InputError(
            f"{len(captions)} captions for {len(captioned)} windows",
            hint="give one, or one per window of the published size",
            code="captions",
        )

    def closest(window: Window) -> int:
        return min(range(len(captioned)), key=lambda i: _distance(window, captioned[i]))

    return [captions[closest(window)] for window in windows]


def _distance(one: Window, other: Window) -> int:
    """Between the centres, squared, times four."""
    down = 2 * (one.top - other.top) + one.height - other.height
    right = 2 * (one.left - other.left) + one.width - other.width
    return down**2 + right**2
