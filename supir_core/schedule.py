"""SDXL's noise schedule: 1000 betas, and the sigmas that a sampler walks down."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

NUM_TIMESTEPS = 1000
SIGMA_MAX = 14.6146  # the table's largest value as the published code rounds it; guidance scales divide by it


def _noise_to_signal() -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, dtype=np.float64) ** 2
    alphas_cumprod = np.cumprod(1 - betas)
    return np.asarray((1 - alphas_cumprod) / alphas_cumprod)


def sigma_table() -> Tensor:
    """(1000,) float32, ascending: the sigma of every timestep, 0.0292 to 14.6146."""
    return torch.from_numpy(_noise_to_signal().astype(np.float32)).sqrt()


def timesteps(num_steps: int) -> list[int]:
    """The timesteps of `num_steps` steps, descending from 999, evenly spaced and truncated."""
    return [int(t) for t in np.linspace(NUM_TIMESTEPS - 1, 0, num_steps, endpoint=False)]


def ddpm_sigmas(num_steps: int) -> Tensor:
    """(num_steps + 1,) float32: sigmas at `timesteps`, then 0.

    The smallest non-zero one depends on `num_steps` (0.398 for 8, 0.134 for 50): the table's end is not reached.
    """
    return torch.cat([sigma_table()[timesteps(num_steps)], torch.zeros(1)])


def karras_sigmas(num_steps: int) -> Tensor:
    """(num_steps + 1,) float32: Karras spacing (EDM, eq. 5, rho 7) between the ends of `ddpm_sigmas`, then 0."""
    ends = ddpm_sigmas(num_steps)
    high, low = ends[0] ** (1 / 7), ends[-2] ** (1 / 7)
    ramp = torch.linspace(0, 1, num_steps)
    return torch.cat([(high + ramp * (low - high)) ** 7, torch.zeros(1)])
