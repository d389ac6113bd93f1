"""The three pulls on a denoised estimate: towards the prompt, along a schedule, towards the photo."""

from __future__ import annotations

from torch import Tensor

from supir_core.ladder import SIGMA_MAX


def linear_in_sigma(start: float, end: float, sigma: float) -> float:
    """A scale that is `start` at SIGMA_MAX and `end` at 0; extrapolates beyond, as churn can exceed SIGMA_MAX."""
    return (start - end) * sigma / SIGMA_MAX + end


def classifier_free(uncond: Tensor, cond: Tensor, scale: Tensor) -> Tensor:
    """`uncond + scale (cond - uncond)`: away from the negative prompt, towards the positive one."""
    return uncond + scale * (cond - uncond)


def pull_towards(denoised: Tensor, z_center: Tensor, strength: float) -> Tensor:
    """Restoration guidance: the estimate moved towards the photo's own latent (paper algorithm 1)."""
    return denoised + strength * (z_center - denoised) if strength else denoised
