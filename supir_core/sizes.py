"""The rule that chooses sizes. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

from supir_core.presets import Size

SIDE_MULTIPLE = 64  # the networks halve six times at most


class SizePlan(NamedTuple):
    """Sizes of one photo on its way, in pixels."""

    network_height: int  # what the networks see: multiples of 64
    network_width: int
    height: int  # what comes out
    width: int


def plan_size(
    height: int, width: int, *, upscale: float, min_size_px: int, short_side_px: int | None = None
) -> SizePlan:
    """The published size rule.

    The result is the photo times `upscale`, or has a short side of `short_side_px`. The networks see at least
    `min_size_px` on the short side (unless `short_side_px` is given), each side rounded to a
    multiple of 64, half to even.
    """
    h, w = height * upscale, width * upscale
    if short_side_px is not None:
        scale = short_side_px / min(h, w)
        h, w = h * scale, w * scale
    out_height, out_width = round(h), round(w)
    if short_side_px is None and min(h, w) < min_size_px:
        scale = min_size_px / min(h, w)
        h, w = h * scale, w * scale
    return SizePlan(_to_multiple(h), _to_multiple(w), max(1, out_height), max(1, out_width))


def _to_multiple(side: float) -> int:
    return max(SIDE_MULTIPLE, round(side / SIDE_MULTIPLE) * SIDE_MULTIPLE)


def planned(size: Size, height: int, width: int) -> SizePlan:
    """The sizes of a photo of so many pixels under a preset's section `size`."""
    return plan_size(
        height, width, upscale=size.upscale, min_size_px=size.min_size_px, short_side_px=size.short_side_px
    )
