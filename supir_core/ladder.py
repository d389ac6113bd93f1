"""The noise levels that a sampler walks down, as plain numbers: SDXL's schedule. Imports no torch."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

NUM_TIMESTEPS = 1000
SIGMA_MAX = 14.6146  # the table's largest value as the published code rounds it; guidance scales divide by it
KARRAS_RHO = 7


@cache
def noise_to_signal() -> np.ndarray:
    """(1000,) float64, ascending: the squared sigma of every timestep, from SDXL's 1000 betas."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, dtype=np.float64) ** 2
    alphas_cumprod = np.cumprod(1 - betas)
    return np.asarray((1 - alphas_cumprod) / alphas_cumprod)


def timesteps(num_steps: int) -> list[int]:
    """The timesteps of `num_steps` steps, descending from 999, evenly spaced and truncated."""
    return [int(t) for t in np.linspace(NUM_TIMESTEPS - 1, 0, num_steps, endpoint=False)]


def levels(sampler: Literal["euler", "dpmpp"], num_steps: int) -> list[float]:
    """The num_steps + 1 sigmas of a sampler, as `schedule` gives them, within rounding."""
    sigmas = np.sqrt(noise_to_signal()[timesteps(num_steps)])
    if sampler == "dpmpp":
        high, low = sigmas[0] ** (1 / KARRAS_RHO), sigmas[-1] ** (1 / KARRAS_RHO)
        sigmas = (high + np.linspace(0, 1, num_steps) * (low - high)) ** KARRAS_RHO
    return [*sigmas.tolist(), 0.0]
