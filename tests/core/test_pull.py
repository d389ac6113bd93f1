"""The pull along a schedule, and the tau_r that a fidelity comes to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supir_core import calibration
from supir_core.calibration import Calibration, Curve
from supir_core.errors import PresetError
from supir_core.ladder import levels
from supir_core.presets import Sampling, derive, load_preset, names, parse, shipped_text
from supir_core.pull import TAU_R_MAX, TAU_R_MIN, pull_steps, tau_r_of, total_pull
from supir_core.schedule import ddpm_sigmas, karras_sigmas

EULER = Sampling("euler", 50, churn=5.0, eta=1.0, s_noise=1.01, seed=1)
DPMPP = Sampling("dpmpp", 8, churn=0.0, eta=1.0, s_noise=1.0, seed=1)


@given(st.integers(1, 1000))
def test_levels_are_those_that_samplers_walk_down(num_steps: int) -> None:
    assert levels("euler", num_steps) == pytest.approx(ddpm_sigmas(num_steps).tolist(), rel=1e-5)
    assert levels("dpmpp", num_steps) == pytest.approx(karras_sigmas(num_steps).tolist(), rel=1e-5)


@pytest.mark.parametrize("schedule", [EULER, DPMPP], ids=["euler", "dpmpp"])
def test_the_steps_of_a_schedule(schedule: Sampling) -> None:
    steps = pull_steps(schedule, 0.5)
    assert len(steps) == schedule.num_steps
    assert steps[0].strength == pytest.approx(1, abs=1e-5), "whatever tau_r is"
    assert all(a.strength > b.strength for a, b in pairwise(steps))
    assert steps[-1].strength == 0 and steps[-1].share == 1, "the last step pulls no more"
    assert all(0 < step.share <= 1 for step in steps)
    assert {step.strength for step in pull_steps(schedule, None)} == {0.0}


@given(st.floats(TAU_R_MIN, TAU_R_MAX), st.floats(TAU_R_MIN, TAU_R_MAX), st.sampled_from([EULER, DPMPP]))
def test_a_larger_tau_r_pulls_less_in_total(one: float, other: float, schedule: Sampling) -> None:
    weaker, harder = max(one, other), min(one, other)
    assert 0 < total_pull(schedule, weaker) <= total_pull(schedule, harder)
    assert total_pull(schedule, None) == 0


@given(st.floats(0.02, 50), st.sampled_from([EULER, DPMPP]))
def test_a_tau_r_is_found_again_from_its_total(tau_r: float, schedule: Sampling) -> None:
    total = total_pull(schedule, tau_r)
    found = tau_r_of(schedule, total)
    assert found is not None and total_pull(schedule, found) == pytest.approx(total, abs=1e-5)


def test_totals_beyond_what_there_is() -> None:
    assert tau_r_of(EULER, 0.0) is None
    assert tau_r_of(EULER, 1e6) == TAU_R_MIN


TABLE = Calibration(
    {},
    (
        Curve("euler", 50, (0.0, 1.0, 3.0, 6.0), (20.0, 20.0, 24.0, 26.0)),
        Curve("euler", 10, (0.0, 1.0, 4.0), (20.5, 22.0, 27.0)),
        Curve("dpmpp", 8, (0.0, 1.0, 5.0), (22.0, 23.0, 25.0)),
    ),
)


def test_a_fidelity_is_a_closeness_that_every_schedule_can_have() -> None:
    assert [TABLE.closeness(fidelity) for fidelity in (0, 0.5, 1)] == [22, 23.5, 25]


@pytest.mark.parametrize("fidelity", [0.2, 0.5, 0.6, 0.8])
def test_the_tau_r_of_a_fidelity_comes_as_close_on_any_schedule(fidelity: float) -> None:
    """As far as three digits of tau_r say it."""
    for curve, schedule in zip(TABLE.curves, (EULER, sampling(EULER, num_steps=10), DPMPP), strict=True):
        tau_r = TABLE.tau_r(fidelity, schedule)
        db = TABLE.closeness(fidelity)
        if curve.pull_for(db) <= total_pull(schedule, TAU_R_MAX):
            assert tau_r is None, "it comes as close without a pull, or with the weakest"
        elif db >= curve.db[-1]:
            assert total_pull(schedule, tau_r) == pytest.approx(curve.total_pull[-1], abs=0.02)
        else:
            assert total_pull(schedule, tau_r) == pytest.approx(curve.pull_for(db), abs=0.02)


def sampling(like: Sampling, **changes: object) -> Sampling:
    return Sampling(**{**like.__dict__, **changes})


def test_between_measured_numbers_of_steps_the_pull_lies_between_theirs() -> None:
    totals = [
        total_pull(sampling(EULER, num_steps=n), TABLE.tau_r(0.8, sampling(EULER, num_steps=n))) for n in (10, 22, 50)
    ]
    assert min(totals[0], totals[2]) < totals[1] < max(totals[0], totals[2])


# In presets


def test_the_shipped_table_says_where_it_comes_from() -> None:
    table = calibration.shipped()
    assert {"model", "date", "closeness", "photos"} <= table.origin.keys()
    assert table.closeness(0) < table.closeness(1)
    assert {"euler", "dpmpp"} == {curve.sampler for curve in table.curves}
    for curve in table.curves:
        assert list(curve.total_pull) == sorted(curve.total_pull) and list(curve.db) == sorted(curve.db)


@pytest.mark.parametrize("name", ["faithful", "balanced", "vivid"])
def test_both_forms_of_a_look_have_one_fidelity(name: str) -> None:
    normal, lightning = load_preset(name), load_preset(f"{name}-lightning")
    assert normal.pull.fidelity == lightning.pull.fidelity is not None
    assert (normal.sampling.sampler, lightning.sampling.sampler) == ("euler", "dpmpp")
    for preset in (normal, lightning):
        assert preset.pull.tau_r == calibration.shipped().tau_r(preset.pull.fidelity, preset.sampling)


def test_looks_go_from_close_to_free() -> None:
    tau_r = [load_preset(name).pull.tau_r or TAU_R_MAX for name in ("faithful", "balanced", "vivid")]
    assert tau_r == sorted(tau_r)


def test_what_is_given_last_decides_and_a_schedule_changes_the_tau_r_that_follows() -> None:
    look = load_preset("faithful")
    assert derive(look, ["sampling.num_steps=8"]).pull.fidelity == look.pull.fidelity
    assert derive(look, ["sampling.num_steps=8", "sampling.sampler=dpmpp"]).pull.tau_r == calibration.shipped().tau_r(
        look.pull.fidelity or 0, sampling(look.sampling, num_steps=8, sampler="dpmpp")
    )
    by_hand = derive(look, ["pull.tau_r=1.5"])
    assert (by_hand.pull.tau_r, by_hand.pull.fidelity) == (1.5, None)
    again = derive(by_hand, ["pull.fidelity=0.8"])
    assert again == look
    assert derive(look, ["pull.fidelity=0.3", "pull.tau_r=2"]).pull.tau_r == 2
    assert derive(look, ["pull.tau_r=2", "pull.fidelity=0.8"]) == look


def test_the_digest_is_of_the_tau_r_however_it_came_about() -> None:
    look = load_preset("faithful")
    assert look.pull.tau_r is not None
    by_hand = derive(look, [f"pull.tau_r={look.pull.tau_r}"])
    assert by_hand.digest == look.digest and by_hand != look


@pytest.mark.parametrize("name", names())
def test_what_a_run_wrote_down_keeps_its_tau_r(name: str) -> None:
    values = load_preset(name).to_dict()
    values["pull"]["tau_r"] = 3.21  # by the table of another version
    assert parse(values).pull.tau_r == 3.21


def test_a_file_gives_one_of_the_two(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(shipped_text("faithful").replace("[pull]", "[pull]\ntau_r = 0.5"), encoding="utf-8")
    with pytest.raises(PresetError, match=r"has pull.tau_r and pull.fidelity"):
        load_preset(str(file))
    with pytest.raises(PresetError, match=r"pull.fidelity must lie between 0 and 1, not 2"):
        derive(load_preset("faithful"), ["pull.fidelity=2"])
