"""SDXL's noise schedule: 1000 betas, and the sigmas that a sampler walks down."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from supir_core.ladder import KARRAS_RHO, NUM_TIMESTEPS, SIGMA_MAX, noise_to_signal, timesteps

__all__ = ["NUM_TIMESTEPS", "SIGMA_MAX", "ddpm_sigmas", "karras_sigmas", "sigma_table", "timesteps"]


def sigma_table() -> Tensor:
    """(1000,) float32, ascending: the sigma of every timestep, 0.0292 to 14.6146."""
    return torch.from_numpy(noise_to_signal().astype(np.float32)).sqrt()


def ddpm_sigmas(num_steps: int) -> Tensor:
    """(num_steps + 1,) float32: sigmas at `timesteps`, then 0.

    The smallest non-zero one depends on `num_steps` (0.398 for 8, 0.134 for 50): the table's end is not reached.
    """
    return torch.cat([sigma_table()[timesteps(num_steps)], torch.zeros(1)])


def karras_sigmas(num_steps: int) -> Tensor:
    """(num_steps + 1,) float32: Karras spacing (EDM, eq. 5, rho 7) between the ends of `ddpm_sigmas`, then 0."""
    ends = ddpm_sigmas(num_steps)
    high, low = ends[0] ** (1 / KARRAS_RHO), ends[-2] ** (1 / KARRAS_RHO)
    ramp = torch.linspace(0, 1, num_steps)
    return torch.cat([(high + ramp * (low - high)) ** KARRAS_RHO, torch.zeros(1)])
