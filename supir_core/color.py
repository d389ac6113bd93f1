"""Colour transfer: the restored detail with the colours of a reference picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

WAVELET_LEVELS = 5
CELL_PX = 4  # side of the cells in which `guided` looks for corrections
CELL_BLURS = 2  # that make them soft: a standard deviation of 6 pixels
RADIUS_CELLS = 4  # of the windows in which a correction is linear in luminance
FLAT = 1e-3  # variance of luminance, in [-1, 1], below which a window holds no edge
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def wavelet(content: Tensor, style: Tensor) -> Tensor:
    """High frequencies of `content` plus low frequencies of `style`; both (B, 3, H, W)."""
    return content - _low_frequencies(content) + _low_frequencies(style)


def guided(content: Tensor, style: Tensor) -> Tensor:
    """`content` with the low frequencies of `style`, edge by edge; both (B, 3, H, W) in [-1, 1].

    A low-frequency exchange spreads the correction of each side of an edge over the other side: a halo. Here the
    correction is linear in the luminance of `content` within windows, so that it has edges where the picture has its
    own: a fast guided filter (He, Sun, Tang 2010, "Guided image filtering"; He, Sun 2015, "Fast guided filter"). The
    line is fitted to the low frequencies of both, where it makes little difference that `style` is softer or noisier.
    """
    height, width = content.shape[2:]
    guide = (content * content.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    seen, wanted = _cells(guide), _cells(style) - _cells(content)
    seen_mean, wanted_mean = _window_mean(seen), _window_mean(wanted)
    covariance = _window_mean(seen * wanted) - seen_mean * wanted_mean
    slope = covariance / (_window_mean(seen * seen) - seen_mean * seen_mean + FLAT)
    offset = wanted_mean - slope * seen_mean
    correction = _full_size(_window_mean(slope), height, width).mul_(guide)
    return correction.add_(_full_size(_window_mean(offset), height, width)).add_(content)


def _cells(image: Tensor) -> Tensor:
    """Low frequencies, one value per cell."""
    return _low_frequencies(F.avg_pool2d(image, CELL_PX, ceil_mode=True, count_include_pad=False), CELL_BLURS)


def _window_mean(cells: Tensor) -> Tensor:
    return F.avg_pool2d(cells, 2 * RADIUS_CELLS + 1, stride=1, padding=RADIUS_CELLS, count_include_pad=False)


def _full_size(cells: Tensor, height: int, width: int) -> Tensor:
    large = F.interpolate(cells, scale_factor=float(CELL_PX), mode="bilinear", align_corners=False)
    return large[..., :height, :width]


def _low_frequencies(image: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """Blurs with a 3x3 binomial kernel, dilated by 1, 2, 4, 8, 16, edges repeated.

    By rows, then by columns, in sums of shifted pictures: a dilated convolution holds nine copies of a large picture.
    """
    for level in range(levels):
        for dim in (2, 3):
            image = _blurred(image, 2**level, dim)
    return image


def _blurred(image: Tensor, radius: int, dim: int) -> Tensor:
    """(1, 2, 1) / 4 along one dimension, the neighbours `radius` away."""
    sides = (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius)
    padded, size = F.pad(image, sides, mode="replicate"), image.shape[dim]
    before, here, after = (padded.narrow(dim, start, size) for start in (0, radius, 2 * radius))
    return (before + after).mul_(0.25).add_(here, alpha=0.5)


def adain(content: Tensor, style: Tensor) -> Tensor:
    """`content` with the mean and standard deviation of each channel of `style`; both (B, 3, H, W)."""
    (mean, std), (style_mean, style_std) = _statistics(content), _statistics(style)
    return (content - mean) / std * style_std + style_mean


def _statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(image, dim=(2, 3), keepdim=True)  # unbiased, as published
    return mean, (variance + 1e-5).sqrt()


COLOR_FIXES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wavelet": wavelet,
    "adain": adain,
    "input": guided,
    "none": lambda content, style: content,
}
"""By the name a preset gives."""
FROM_PHOTO = ("input",)
"""Fixes that take their colours from the photo itself; the others take them from its stage 1."""
