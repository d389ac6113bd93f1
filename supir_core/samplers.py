"""Samplers, written for one photo.

A sampler is a generator: it yields a `Query` (what the networks should denoise), is sent the denoised estimate, and
returns the finished latent. It never sees tiles or batches, so photos of any size and at any step can share the
networks' batches, and each comes out as if it had been alone. `run_together` drives them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from supir_core.guidance import pull_strength, pull_towards
from supir_core.noise import Noise


class Query(NamedTuple):
    """One request to the networks."""

    x: Tensor  # (1, 4, h, w) noisy latent
    sigma: float  # of the schedule: the control scale follows it
    sigma_hat: float  # of `x`, after churn: the networks and the guidance scale follow it


Sampler = Generator[Query, Tensor, Tensor]


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
    gamma = min(churn / (len(levels) - 1), 2**0.5 - 1)
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
