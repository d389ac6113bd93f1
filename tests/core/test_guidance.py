from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.guidance import classifier_free, linear_in_sigma, pull_towards
from supir_core.pull import pull_strength
from supir_core.schedule import SIGMA_MAX

sigmas = st.floats(0.06, SIGMA_MAX)


@given(sigmas, st.floats(0, 20), st.floats(0, 20))
def test_a_larger_tau_r_never_pulls_harder(sigma: float, one: float, other: float) -> None:
    weaker, harder = max(one, other), min(one, other)
    assert pull_strength(sigma, 0.06, weaker) <= pull_strength(sigma, 0.06, harder)


def test_half_way_down_tau_r_4_has_let_go_and_one_half_has_not() -> None:
    assert pull_strength(SIGMA_MAX / 2, 1.0, 4.0) == pytest.approx(1 / 16)
    assert pull_strength(SIGMA_MAX / 2, 1.0, 0.5) == pytest.approx(0.7071, abs=1e-4)


@given(st.floats(0, 20))
def test_at_the_highest_noise_the_pull_is_full(tau_r: float) -> None:
    assert pull_strength(SIGMA_MAX, 10.0, tau_r) == 1


@given(sigmas, st.floats(0, 20))
def test_the_pull_lies_between_none_and_full(sigma: float, tau_r: float) -> None:
    assert 0 <= pull_strength(sigma, 0.06, tau_r) <= 1


@given(sigmas)
def test_off_never_pulls(sigma: float) -> None:
    assert pull_strength(sigma, 1.0, None) == 0


@pytest.mark.parametrize(("sigma_next", "pulls"), [(0.0501, True), (0.05, False), (0.0, False)])
def test_the_pull_ends_before_the_last_step(sigma_next: float, pulls: bool) -> None:
    assert (pull_strength(0.1, sigma_next, 0.5) > 0) is pulls


def test_a_full_pull_lands_on_the_photo_and_none_stays() -> None:
    estimate, photo = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    assert torch.equal(pull_towards(estimate, photo, 1.0), photo)
    assert torch.equal(pull_towards(estimate, photo, 0.0), estimate)
    assert torch.equal(pull_towards(estimate, photo, 0.25), photo / 4)


@given(st.floats(0, 10), st.floats(0, 10))
def test_a_linear_scale_has_its_ends_where_they_are_named(start: float, end: float) -> None:
    assert linear_in_sigma(start, end, SIGMA_MAX) == pytest.approx(start)
    assert linear_in_sigma(start, end, 0) == end


def test_a_linear_scale_goes_on_beyond_the_schedule() -> None:
    assert linear_in_sigma(1, 4, SIGMA_MAX * 2**0.5) == pytest.approx(-0.2426, abs=1e-4)


def test_guidance_scales_mix_and_overshoot() -> None:
    uncond, cond = torch.tensor([[0.0], [0.0], [0.0]]), torch.tensor([[1.0], [1.0], [1.0]])
    assert classifier_free(uncond, cond, torch.tensor([[0.0], [1.0], [4.0]])).tolist() == [[0], [1], [4]]
