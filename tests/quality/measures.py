"""How good a restored photo is, against the one that was damaged."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)


def psnr(made: np.ndarray, original: np.ndarray) -> float:
    """In decibels, over all values of (H, W, 3) uint8."""
    error = np.mean((made.astype(np.float64) - original) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def ssim(made: np.ndarray, original: np.ndarray) -> float:
    """Structural similarity of brightness (Wang et al. 2004: Gaussian window of 1.5 pixels, K = 0.01 and 0.03)."""
    x, y = _luma(made), _luma(original)
    reach = torch.arange(-5, 6, dtype=torch.float64)
    window = torch.exp(-(reach**2) / (2 * 1.5**2))
    window = window / window.sum()

    def mean(field: Tensor) -> Tensor:
        rows = F.conv2d(field, window[None, None, :, None])
        return F.conv2d(rows, window[None, None, None, :])

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    cov = mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(found.mean())


def sharpness(made: np.ndarray, original: np.ndarray) -> float:
    """How steep the original's steepest tenth of pixels is in the result, as a share of what it was there."""
    steep = _steepness(original)
    edges = steep >= np.quantile(steep, 0.9)
    return float(_steepness(made)[edges].mean() / steep[edges].mean())


def _luma(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.astype(np.float64) @ np.array(LUMA))[None, None]


def _steepness(pixels: np.ndarray) -> np.ndarray:
    y, x = np.gradient(pixels.astype(np.float64) @ np.array(LUMA))
    return np.asarray(np.hypot(x, y))
