"""Colour transfer: the restored detail with the colours of a reference picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

WAVELET_LEVELS = 5


def wavelet(content: Tensor, style: Tensor) -> Tensor:
    """High frequencies of `content` plus low frequencies of `style`; both (B, 3, H, W)."""
    return content - _low_frequencies(content) + _low_frequencies(style)


def _low_frequencies(image: Tensor) -> Tensor:
    """Five blurs with a 3x3 binomial kernel, dilated by 1, 2, 4, 8, 16, edges repeated.

    By rows, then by columns, in sums of shifted pictures: a dilated convolution holds nine copies of a large picture.
    """
    for level in range(WAVELET_LEVELS):
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
    "none": lambda content, style: content,
}
"""By the name a preset gives."""
