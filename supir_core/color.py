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
    """Five blurs with a 3x3 binomial kernel, dilated by 1, 2, 4, 8, 16, edges repeated."""
    row = image.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(row, row).expand(image.shape[1], 1, 3, 3)
    for level in range(WAVELET_LEVELS):
        radius = 2**level
        padded = F.pad(image, (radius,) * 4, mode="replicate")
        image = F.conv2d(padded, kernel, dilation=radius, groups=image.shape[1])
    return image


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
