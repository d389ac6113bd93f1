"""A picture while it is painted, in linear light, from back to front; and the masks it is painted through.

Edges are anti-aliased: masks are drawn four to eight times as large and averaged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch.nn import functional as F

from training.surfaces import Surface

FINE_PX = 24  # masks up to this size are drawn eight times as large, others four times


class Mask(NamedTuple):
    """How much of each pixel is covered, in a box of the canvas."""

    alpha: np.ndarray  # (h, w) float32 in [0, 1]
    top: int
    left: int


class Canvas:
    """A square of linear light.

    Args:
        size: of both sides, in pixels.
        color: (3,) linear light to start from.
    """

    def __init__(self, size: int, color: np.ndarray) -> None:
        self.size = size
        self.light = np.empty((size, size, 3), np.float32)  # linear, unbounded above
        self.light[:] = color

    def paint(self, mask: Mask | None, surface: Surface, opacity: float = 1.0) -> None:
        """Cover what the mask shows with a surface."""
        if mask is None:
            return
        region = self._region(mask)
        fill = surface.render(mask.top, mask.left, *mask.alpha.shape)  # (h, w, 3)
        fill -= region
        fill *= (mask.alpha * np.float32(opacity))[..., None]
        region += fill

    def darken(self, mask: Mask | None, strength: float) -> None:
        """A shadow: take away this share of the light."""
        if mask is not None:
            self._region(mask)[:] *= (1 - strength * mask.alpha)[..., None]

    def blur(self, sigma_px: float) -> None:
        """Everything painted so far goes out of focus."""
        if sigma_px > 0.2:
            self.light = gaussian(self.light, sigma_px)

    def _region(self, mask: Mask) -> np.ndarray:
        height, width = mask.alpha.shape
        return self.light[mask.top : mask.top + height, mask.left : mask.left + width]


def gaussian(pixels: np.ndarray, sigma_px: float) -> np.ndarray:
    """(H, W, C) float32, blurred; the picture is mirrored at its borders."""
    radius = min(math.ceil(3 * sigma_px), min(pixels.shape[:2]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_px) ** 2)
    taps = taps / taps.sum()
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[:, None]  # (C, 1, H, W)
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="reflect"), taps[None, None, :, None])
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="reflect"), taps[None, None, None, :])
    return np.ascontiguousarray(planes[:, 0].numpy().transpose(1, 2, 0))


def filled(outlines: Sequence[np.ndarray], size: int, softness_px: float = 0.0) -> Mask | None:
    """The inside of closed outlines, each (N, 2) as x, y in pixels; None if nothing lies on the canvas."""
    return _drawn(outlines, size, softness_px, None)


def stroked(paths: Sequence[np.ndarray], size: int, width_px: float, softness_px: float = 0.0) -> Mask | None:
    """Lines along paths, each (N, 2) as x, y in pixels; None if nothing lies on the canvas."""
    return _drawn(paths, size, softness_px, width_px)


def lettered(
    text: str, size: int, x: float, y: float, height_px: int, angle_deg: float = 0.0, softness_px: float = 0.0
) -> Mask | None:
    """Lines of text around a point, in Pillow's own font; None if nothing lies on the canvas."""
    font = _font(height_px)
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=font)
    pad = 2 + math.ceil(3 * softness_px)
    image = Image.new("L", (math.ceil(right - left) + 2 * pad, math.ceil(bottom - top) + 2 * pad))
    ImageDraw.Draw(image).multiline_text((pad - left, pad - top), text, fill=255, font=font)
    if angle_deg:
        image = image.rotate(angle_deg, Image.Resampling.BICUBIC, expand=True)
    if softness_px > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(softness_px)))
    left, top = round(x - image.width / 2), round(y - image.height / 2)
    box = (max(0, -left), max(0, -top), min(image.width, size - left), min(image.height, size - top))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    return Mask(np.asarray(image.crop(box), np.float32) / 255, max(0, top), max(0, left))


@functools.lru_cache(maxsize=128)
def _font(height_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(height_px)


def _drawn(outlines: Sequence[np.ndarray], size: int, softness_px: float, width_px: float | None) -> Mask | None:
    """Outlines filled, or with a width stroked."""
    everything = outlines[0] if len(outlines) == 1 else np.concatenate(outlines)
    low, high = everything.min(axis=0), everything.max(axis=0)
    pad = 2 + math.ceil(3 * softness_px + (width_px or 0) / 2)
    left, top = (max(0, math.floor(v) - pad) for v in low)
    right, bottom = (min(size, math.ceil(v) + pad) for v in high)
    if right - left < 1 or bottom - top < 1:
        return None
    factor = 8 if max(right - left, bottom - top) <= FINE_PX else 4
    image = Image.new("L", ((right - left) * factor, (bottom - top) * factor))
    draw = ImageDraw.Draw(image)
    for points in outlines:
        flat = ((points - (left, top)) * factor - 0.5).ravel().tolist()  # Pillow's pixel 0 is centred on 0
        if width_px is None:
            draw.polygon(flat, fill=255)
        else:
            draw.line(flat, fill=255, width=max(1, round(width_px * factor)), joint="curve" if width_px > 2 else None)
    image = image.reduce(factor)
    if softness_px > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(softness_px)))  # not a NumPy number
    return Mask(np.asarray(image, np.float32) / 255, top, left)
