"""Arrays of pixels <-> the networks' tensors, and the rule that chooses sizes. No file formats here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

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
    return max(SIDE_MULTIPLE, int(np.round(side / SIDE_MULTIPLE)) * SIDE_MULTIPLE)


def to_tensor(pixels: np.ndarray, height: int, width: int) -> Tensor:
    """Resize bicubically, with antialiasing, to what the networks see.

    Args:
        pixels: (H, W, 3) uint8.
        height: of the result.
        width: of the result.

    Returns:
        (1, 3, height, width) float32 in [-1, 1].
    """
    resized = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized.astype(np.float32) / 255 * 2 - 1).permute(2, 0, 1)[None].contiguous()


def resize_back(image: Tensor, height: int, width: int) -> Tensor:
    """(1, 3, H, W) -> (1, 3, height, width), bicubic without antialiasing as published, clipped to [-1, 1]."""
    resized = F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False, antialias=False)
    return resized.clamp(-1, 1)


def to_uint8(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) uint8, rounded (the published code truncates: PARITY.md)."""
    return (image[0].permute(1, 2, 0).clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).cpu().numpy()
