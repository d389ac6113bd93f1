"""The three pulls on a denoised estimate: towards the prompt, along a schedule, towards the photo."""

from __future__ import annotations

from torch import Tensor

from supir_core.schedule import SIGMA_MAX

PULL_ENDS_BELOW = 0.05  # no pull in a step whose next sigma is at or below this (paper, restoration-guided sampling)


def linear_in_sigma(start: float, end: float, sigma: float) -> float:
    """A scale that is `start` at SIGMA_MAX and `end` at 0; extrapolates beyond, as churn can exceed SIGMA_MAX."""
    return (start - end) * sigma / SIGMA_MAX + end


def classifier_free(uncond: Tensor, cond: Tensor, scale: Tensor) -> Tensor:
    """`uncond + scale (cond - uncond)`: away from the negative prompt, towards the positive one."""
    return uncond + scale * (cond - uncond)


def pull_strength(sigma: float, sigma_next: float, tau_r: float | None) -> float:
    """Strength k of the restoration guidance, 0 to 1: (sigma / SIGMA_MAX) ** tau_r.

    A larger tau_r is a WEAKER pull; None is off. `sigma` is the value before churn.
    """
    if tau_r is None or sigma_next <= PULL_ENDS_BELOW:
        return 0.0
    return float((sigma / SIGMA_MAX) ** tau_r)


def pull_towards(denoised: Tensor, z_center: Tensor, strength: float) -> Tensor:
    """Restoration guidance: the estimate moved towards the photo's own latent (paper algorithm 1)."""
    return denoised + strength * (z_center - denoised) if strength else denoised
