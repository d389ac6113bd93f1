"""Arrays of pixels <-> the networks' tensors. No file formats here."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

CAPTION_SIDE_PX = 512  # the short side of the pictures that the published system captions


def to_tensor(pixels: np.ndarray, height: int, width: int) -> Tensor:
    """Resize bicubically, with antialiasing, to what the networks see.

    The levels stay levels on the way, of 8 or 16 bits: what overshoots is clipped, as published.

    Args:
        pixels: (H, W, 3) uint8 or uint16.
        height: of the result.
        width: of the result.

    Returns:
        (1, 3, height, width) float32 in [-1, 1].
    """
    resized = _resized(pixels, height, width)
    top = np.iinfo(resized.dtype).max
    return torch.from_numpy(resized.astype(np.float32) / top * 2 - 1).permute(2, 0, 1)[None].contiguous()


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) -> (height, width, 3); Pillow has 16 bits of one channel at a time."""
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
    out = np.empty((height, width, 3), np.uint16)
    for channel in range(3):
        plane = Image.fromarray(np.ascontiguousarray(pixels[..., channel]))
        out[..., channel] = np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC))
    return out


def shrunk(pixels: np.ndarray, short_side_px: int = CAPTION_SIDE_PX) -> np.ndarray:
    """(H, W, 3) uint8 with a short side of at most so many pixels; a smaller picture as it is."""
    height, width = pixels.shape[:2]
    scale = short_side_px / min(height, width)
    if scale >= 1:
        return pixels
    size = round(width * scale), round(height * scale)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def resize_back(image: Tensor, height: int, width: int) -> Tensor:
    """(1, 3, H, W) -> (1, 3, height, width), bicubic without antialiasing as published, clipped to [-1, 1]."""
    if image.shape[2:] == (height, width):
        return image.clamp(-1, 1)
    resized = F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False, antialias=False)
    return resized.clamp(-1, 1)


def to_uint8(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) uint8, rounded (the published code truncates: PARITY.md)."""
    levels = image[0].permute(1, 2, 0).clamp(-1, 1).mul_(127.5).add_(127.5).round_()
    return levels.to(torch.uint8).cpu().numpy()
