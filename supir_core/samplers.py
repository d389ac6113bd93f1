"""Samplers, written for one photo.

A sampler is a generator: it yields a `Query` (what the networks should denoise), is sent the denoised estimate, and
returns the finished latent. It never sees tiles or batches, so photos of any size and at any step can share the
networks' batches, and each comes out as if it had been alone. `run_together` drives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from supir_core.guidance import pull_towards
from supir_core.noise import Noise
from supir_core.pull import CHURN_MAX, pull_strength


class Query(NamedTuple):
    """One request to the networks."""

    x: Tensor  # (1, 4, h, w) noisy latent
    sigma: float  # of the schedule: the control scale follows it
    sigma_hat: float  # of `x`, after churn: the networks and the guidance scale follow it


Sampler = Generator[Query, Tensor, Tensor]

StepNoise = Callable[[int, float, float], Tensor]
"""(step, sigma, sigma_next) -> standard normal noise of the latent's shape."""


def euler(
    sigmas: Tensor, z_center: Tensor, noise: Noise, *, tau_r: float | None, churn: float, s_noise: float
) -> Sampler:
    """Euler steps with churn (EDM algorithm 2 without its second order) and restoration guidance.

    Args:
        sigmas: (n + 1,) descending, ending in 0.
        z_center: (1, 4, h, w) what the guidance pulls towards.
        noise: draws `start` and, with churn, `step-<i>`.
        tau_r: exponent of the pull; larger is weaker, None is off.
        churn: noise added per step, spread over the steps; 0 is deterministic.
        s_noise: standard deviation of the churn noise.
    """
    levels = sigmas.tolist()
    gamma = min(churn / (len(levels) - 1), CHURN_MAX)
    x = _start(levels[0], z_center, noise)
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        sigma_hat = sigma * (1 + gamma)
        if gamma > 0:
            added = noise(f"step-{i}", x.shape).to(x) * s_noise
            x = x + added * (sigma_hat**2 - sigma**2) ** 0.5
        denoised = yield Query(x, sigma, sigma_hat)
        denoised = pull_towards(denoised, z_center, pull_strength(sigma, sigma_next, tau_r))
        x = x + (x - denoised) / sigma_hat * (sigma_next - sigma_hat)
    return x


def dpmpp_2m_sde(
    sigmas: Tensor,
    z_center: Tensor,
    noise: Noise,
    step_noise: StepNoise,
    *,
    tau_r: float | None,
    eta: float,
    s_noise: float,
) -> Sampler:
    """DPM-Solver++(2M) SDE (Lu et al. 2022, algorithm 2, with noise) and restoration guidance.

    The published form has no guidance; `tau_r` None reproduces it.

    Args:
        sigmas: (n + 1,) descending, ending in 0.
        z_center: (1, 4, h, w) what the guidance pulls towards.
        noise: draws `start`.
        step_noise: the noise of a step.
        tau_r: exponent of the pull; larger is weaker, None is off.
        eta: 1 adds all the noise of the reverse SDE, 0 none.
        s_noise: standard deviation of that noise.
    """
    levels = sigmas.tolist()
    x = _start(levels[0], z_center, noise)
    before: tuple[Tensor, float] | None = None  # estimate and h of the step before
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = yield Query(x, sigma, sigma)
        denoised = pull_towards(denoised, z_center, pull_strength(sigma, sigma_next, tau_r))
        if sigma_next == 0:
            return denoised
        h = math.log(sigma / sigma_next)
        estimate = denoised
        if before is not None:
            half = h / before[1] / 2  # 1 / (2 r)
            estimate = (1 + half) * denoised - half * before[0]
        x = sigma_next / sigma * math.exp(-eta * h) * x - math.expm1(-(1 + eta) * h) * estimate
        if eta and before is not None:
            spread = sigma_next * math.sqrt(-math.expm1(-2 * eta * h)) * s_noise
            x = x + step_noise(i, sigma, sigma_next).to(x) * spread
        before = (denoised, h)
    return x


def _start(sigma: float, like: Tensor, noise: Noise) -> Tensor:
    return noise("start", like.shape).to(like) * (1 + sigma**2) ** 0.5


def run_together(
    samplers: Sequence[Sampler],
    denoise: Callable[[dict[int, Query]], list[Tensor]],
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Tensor]:
    """Drive samplers in step and answer their queries together.

    Args:
        samplers: one per photo; they may differ in size, schedule and number of steps.
        denoise: answers the queries of the samplers that are still running, by their position, in their order.
        on_step: called with the number of steps done.

    Returns:
        The samplers' results, in their order.
    """
    results: dict[int, Tensor] = {}
    answers: dict[int, Tensor | None] = dict.fromkeys(range(len(samplers)))
    step = 0
    while True:
        queries: dict[int, Query] = {}
        for i, answer in answers.items():
            try:
                queries[i] = next(samplers[i]) if answer is None else samplers[i].send(answer)
            except StopIteration as finished:
                results[i] = finished.value
        if not queries:
            return [results[i] for i in range(len(samplers))]
        answers = dict(zip(queries, denoise(queries), strict=True))
        step += 1
        on_step(step)
