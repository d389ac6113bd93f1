"""Restoration guidance along a schedule: how hard each step pulls, and how far all of them come. Imports no torch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

from supir_core.ladder import SIGMA_MAX, levels

PULL_ENDS_BELOW = 0.05  # no pull in a step whose next sigma is at or below this (paper, restoration-guided sampling)
TAU_R_MIN, TAU_R_MAX = 0.01, 100.0
CHURN_MAX = 2**0.5 - 1  # of one step (EDM, algorithm 2)


class Schedule(Protocol):
    """What of a preset's sampling decides the pull's way; `presets.Sampling` has it."""

    @property
    def sampler(self) -> Literal["euler", "dpmpp"]:
        """`euler` or `dpmpp`."""

    @property
    def num_steps(self) -> int:
        """Of the sampler."""

    @property
    def churn(self) -> float:
        """euler: noise added along the way."""

    @property
    def eta(self) -> float:
        """dpmpp: the share of the reverse process's noise."""


class Step(NamedTuple):
    """One step of a sampler."""

    sigma: float
    strength: float  # k, 0 to 1: the estimate goes so much of its way towards the photo
    share: float  # 0 to 1: the latent goes so much of its way towards the estimate


def pull_strength(sigma: float, sigma_next: float, tau_r: float | None) -> float:
    """Strength k of the restoration guidance, 0 to 1: (sigma / SIGMA_MAX) ** tau_r.

    A larger tau_r is a WEAKER pull; None is off. `sigma` is the value before churn.
    """
    if tau_r is None or sigma_next <= PULL_ENDS_BELOW:
        return 0.0
    return float((sigma / SIGMA_MAX) ** tau_r)


def pull_steps(sampling: Schedule, tau_r: float | None) -> list[Step]:
    """The steps of a schedule."""
    gamma = min(sampling.churn / sampling.num_steps, CHURN_MAX) if sampling.sampler == "euler" else 0.0
    power = 1 + sampling.eta if sampling.sampler == "dpmpp" else 1.0
    return [
        Step(
            sigma, min(1.0, pull_strength(sigma, sigma_next, tau_r)), 1 - (sigma_next / (sigma * (1 + gamma))) ** power
        )
        for sigma, sigma_next in pairwise(levels(sampling.sampler, sampling.num_steps))
    ]


def total_pull(sampling: Schedule, tau_r: float | None) -> float:
    """How far all steps pull: 0 is not at all; minus the logarithm of what they leave of a distance to the photo.

    If estimates only repeated what the latent holds, a step would leave 1 - strength * share of the distance.
    """
    return -sum(math.log1p(-step.strength * step.share) for step in pull_steps(sampling, tau_r) if step.strength)


def tau_r_of(sampling: Schedule, total: float) -> float | None:
    """The tau_r whose `total_pull` that is; None (off) if the weakest pull is already more."""
    weak, strong = TAU_R_MAX, TAU_R_MIN
    if total <= total_pull(sampling, weak):
        return None
    if total >= total_pull(sampling, strong):
        return strong
    for _ in range(60):  # halves on a logarithmic scale
        middle = math.sqrt(weak * strong)
        weak, strong = (weak, middle) if total_pull(sampling, middle) >= total else (middle, strong)
    return weak
