from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from supir_core.noise import photo_noise
from supir_core.samplers import Query, Sampler, euler, run_together
from supir_core.schedule import ddpm_sigmas

PHOTO = torch.full((1, 4, 4, 4), 2.0)
GOAL = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4)


def sampler(num_steps: int = 3, churn: float = 0.0, tau_r: float | None = None, key: str = "a") -> Sampler:
    return euler(ddpm_sigmas(num_steps), PHOTO, photo_noise(key, 1), tau_r=tau_r, churn=churn, s_noise=1.0)


def always(goal: Tensor) -> Callable[[dict[int, Query]], list[Tensor]]:
    """Networks that see the same finished picture in any noise."""
    return lambda queries: [goal for _ in queries]


@pytest.mark.parametrize("churn", [0.0, 5.0])
def test_a_certain_estimate_is_reached(churn: float) -> None:
    [result] = run_together([sampler(churn=churn)], always(GOAL))
    torch.testing.assert_close(result, GOAL, rtol=0, atol=1e-5)


def test_the_start_is_noise_at_the_first_sigma() -> None:
    queries = trace(sampler())
    expected = photo_noise("a", 1)("start", PHOTO.shape) * (1 + float(ddpm_sigmas(3)[0]) ** 2) ** 0.5
    torch.testing.assert_close(queries[0].x, expected)


def test_without_churn_the_noise_of_a_query_is_the_schedules() -> None:
    assert all(query.sigma_hat == query.sigma for query in trace(sampler()))


def test_churn_raises_the_noise_of_every_query() -> None:
    queries = trace(sampler(num_steps=50, churn=5.0))
    assert [query.sigma_hat / query.sigma for query in queries] == pytest.approx([1.1] * 50)


def test_churn_is_capped() -> None:
    assert trace(sampler(num_steps=3, churn=100.0))[0].sigma_hat == pytest.approx(2**0.5 * float(ddpm_sigmas(3)[0]))


@pytest.mark.parametrize(("churn", "drawn"), [(0.0, ["start"]), (5.0, ["start", "step-0", "step-1", "step-2"])])
def test_noise_is_drawn_by_name_and_only_where_it_is_used(churn: float, drawn: list[str]) -> None:
    names: list[str] = []

    def noise(name: str, shape: Sequence[int]) -> Tensor:
        names.append(name)
        return torch.zeros(tuple(shape))

    run_together([euler(ddpm_sigmas(3), PHOTO, noise, tau_r=None, churn=churn, s_noise=1.0)], always(GOAL))
    assert names == drawn


def test_the_smaller_tau_r_the_closer_to_the_photo_on_the_way() -> None:
    last_query = [trace(sampler(tau_r=tau_r))[-1].x for tau_r in (0.5, 4.0, None)]
    distances = [float((x - PHOTO).norm()) for x in last_query]
    assert distances == sorted(distances)
    assert distances[0] < distances[1] < distances[2]


def test_each_result_is_the_same_alone_and_together() -> None:
    def makers() -> list[Sampler]:
        return [sampler(2, key="a"), sampler(5, churn=5.0, key="b"), sampler(3, tau_r=1.0, key="c")]

    def half(queries: dict[int, Query]) -> list[Tensor]:
        return [query.x / 2 for query in queries.values()]

    together = run_together(makers(), half)
    alone = [run_together([one], half)[0] for one in makers()]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_samplers_leave_when_they_are_done_and_steps_are_counted() -> None:
    running: list[list[int]] = []
    steps: list[int] = []

    def denoise(queries: dict[int, Query]) -> list[Tensor]:
        running.append(list(queries))
        return [GOAL for _ in queries]

    run_together([sampler(1), sampler(3), sampler(2)], denoise, steps.append)
    assert running == [[0, 1, 2], [1, 2], [1]]
    assert steps == [1, 2, 3]


def trace(one: Sampler) -> list[Query]:
    """The queries of a sampler whose networks always see `GOAL`."""
    seen: list[Query] = []

    def denoise(queries: dict[int, Query]) -> list[Tensor]:
        seen.extend(queries.values())
        return [GOAL for _ in queries]

    run_together([one], denoise)
    return seen
