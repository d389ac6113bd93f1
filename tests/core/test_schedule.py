from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.schedule import NUM_TIMESTEPS, SIGMA_MAX, ddpm_sigmas, karras_sigmas, sigma_table, timesteps

steps = st.integers(1, NUM_TIMESTEPS)


def test_the_table_rises_from_almost_none_to_sigma_max() -> None:
    table = sigma_table()
    assert table.shape == (1000,)
    assert (table.diff() > 0).all()
    assert table[0] == pytest.approx(0.0292, abs=5e-5)
    assert table[-1] == pytest.approx(SIGMA_MAX, abs=5e-5)


@given(steps)
def test_timesteps_start_at_the_noisiest_and_descend(num_steps: int) -> None:
    found = timesteps(num_steps)
    assert len(found) == num_steps
    assert found[0] == NUM_TIMESTEPS - 1
    assert all(a > b >= 0 for a, b in itertools.pairwise(found))


def test_a_thousand_steps_visit_every_timestep() -> None:
    assert timesteps(NUM_TIMESTEPS) == list(reversed(range(NUM_TIMESTEPS)))


@given(steps)
def test_sigmas_walk_down_the_table_and_end_at_zero(num_steps: int) -> None:
    sigmas = ddpm_sigmas(num_steps)
    assert sigmas.shape == (num_steps + 1,)
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    assert torch.isin(sigmas[:-1], sigma_table()).all()


@pytest.mark.parametrize(("num_steps", "smallest"), [(8, 0.398), (50, 0.134)])
def test_the_smallest_sigma_depends_on_the_number_of_steps(num_steps: int, smallest: float) -> None:
    assert ddpm_sigmas(num_steps)[-2] == pytest.approx(smallest, abs=5e-4)


@given(st.integers(2, NUM_TIMESTEPS))
def test_karras_sigmas_share_the_ends_of_the_table_walk(num_steps: int) -> None:
    karras, ddpm = karras_sigmas(num_steps), ddpm_sigmas(num_steps)
    assert (karras.diff() < 0).all()
    torch.testing.assert_close(karras[[0, -2, -1]], ddpm[[0, -2, -1]], rtol=1e-5, atol=0)


def test_karras_spacing_is_denser_at_low_noise() -> None:
    gaps = -karras_sigmas(20)[:-1].diff()
    assert (gaps.diff() < 0).all()
