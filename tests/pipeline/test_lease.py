"""One run at a time: who holds a lease, who takes it over, and who is told so."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import lease
from pipeline.lease import held
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import InputError
from supir_core.presets import load_preset
from tests.pipeline.runs import settings_for

FAST = {"renew_s": 0.05, "stale_s": 1.0}
PATIENCE_S = 120


@pytest.fixture
def setting(tmp_path: Path) -> RunSettings:
    return settings_for(tmp_path / "in", tmp_path / "out")


def take(setting: RunSettings, interrupt: Any = lambda: None, **changes: Any) -> Any:
    own = dataclasses.replace(setting, **changes)
    return held(Store(own.output), own, interrupt, **FAST)


def leases(setting: RunSettings) -> list[Path]:
    return sorted(Path(setting.output).glob("runs/leases/*/*.json"))


def elsewhere(setting: RunSettings, **changes: Any) -> Path:
    """A lease as a run on another machine writes it."""
    with take(setting, run="run-elsewhere"):
        (place,) = leases(setting)
        theirs = json.loads(place.read_text()) | {"machine": "another", "token": "theirs", "host": "far-away"} | changes
    place.write_text(json.dumps(theirs))
    return place


def refused(setting: RunSettings, **changes: Any) -> InputError:
    with pytest.raises(InputError) as raised, take(setting, **changes):
        pass
    assert raised.value.code == "run-active"
    return raised.value


def test_a_second_run_is_refused_and_told_who_is_running(setting: RunSettings) -> None:
    with take(setting):
        said = str(refused(setting, run="second"))
        assert setting.run in said and f"process {os.getpid()}" in said and "since 20" in said
    with take(setting, run="third"):
        pass
    assert leases(setting) == []


def test_a_submitted_run_waits_for_one_that_may_have_died(setting: RunSettings) -> None:
    place, waiter = elsewhere(setting), dataclasses.replace(setting, run="waiter")
    store = Store(setting.output)
    with held(store, waiter, lambda: None, renew_s=0.05, stale_s=1.0, wait_s=PATIENCE_S):
        assert json.loads(place.read_text())["run"] == "waiter"
    with take(setting), pytest.raises(InputError) as error, held(store, waiter, lambda: None, **FAST, wait_s=0.2):
        pass
    assert error.value.code == "run-active"


def test_looks_do_not_disturb_each_other(setting: RunSettings) -> None:
    with take(setting), take(setting, presets=(load_preset("demo", ["pull.tau_r=2"]),)):
        assert len(leases(setting)) == 2


def test_shards_of_one_number_run_together_and_no_others(setting: RunSettings) -> None:
    with take(setting, shard="1/2"):
        with take(setting, shard="2/2"):
            refused(setting, shard="2/2")
        refused(setting, shard="1/3")
        refused(setting)
        assert len(leases(setting)) == 1, "who is refused leaves nothing"
    with take(setting):
        refused(setting, shard="1/2")


def test_a_run_that_fails_gives_its_lease_back(setting: RunSettings) -> None:
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), take(setting):
            raise error
    assert leases(setting) == []


def test_a_living_lease_of_another_machine_is_respected(setting: RunSettings) -> None:
    place = elsewhere(setting)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.01):
            held_by = json.loads(place.read_text()) | {"renewed": lease._now()}
            Store(setting.output).write(str(place.relative_to(setting.output)), json.dumps(held_by).encode())

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        assert "far-away" in str(refused(setting))
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("renewed", ["2020-01-01T00:00:00+00:00", "2120-01-01T00:00:00+00:00"])
def test_a_lease_that_is_not_renewed_is_taken_over(setting: RunSettings, renewed: str) -> None:
    elsewhere(setting, renewed=renewed)
    with take(setting):
        assert json.loads(leases(setting)[0].read_text())["run"] == setting.run


def test_a_lease_that_moves_is_alive_whatever_its_clock_says(setting: RunSettings) -> None:
    place = elsewhere(setting, renewed="2020-01-01T00:00:00+00:00")
    over = threading.Event()

    def renew() -> None:
        for second in range(10**6):
            held_by = json.loads(place.read_text())
            held_by["renewed"] = f"2020-01-01T00:00:00.{second:06d}+00:00"
            Store(setting.output).write(str(place.relative_to(setting.output)), json.dumps(held_by).encode())
            if over.wait(0.001):
                return

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        refused(setting)
    finally:
        over.set()
        thread.join()


def test_what_is_no_lease_is_written_over(setting: RunSettings) -> None:
    place = elsewhere(setting)
    place.write_bytes(b"{")
    with take(setting):
        pass


HOLD = "import sys, time; from tests.pipeline.test_lease import hold; hold(*sys.argv[1:])"


def hold(source: str, output: str) -> None:
    """In a process of its own: hold a lease until killed."""
    with held(Store(output), settings_for(source, output, run="to be killed"), lambda: None):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        sys.stdin.read()


def test_the_lease_of_a_killed_process_is_taken_at_once(setting: RunSettings, tmp_path: Path) -> None:
    """At once: the staleness here is an hour."""
    command = [sys.executable, "-c", HOLD, setting.input, setting.output]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as run:
        assert run.stdout is not None and run.stdout.readline() == b"held\n"
        assert f"process {run.pid}" in str(refused(setting))
        run.kill()
        os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet buried
        with held(Store(setting.output), setting, lambda: None, renew_s=3600, stale_s=3600):
            assert json.loads(leases(setting)[0].read_text())["run"] == setting.run


def test_a_run_whose_lease_was_taken_over_ends(setting: RunSettings) -> None:
    interrupted = threading.Event()
    with pytest.raises(InputError, match="far-away has taken the place") as raised, take(setting, interrupted.set):
        (place,) = leases(setting)
        theirs = json.loads(place.read_text()) | {"token": "theirs", "host": "far-away", "run": "run-elsewhere"}
        Store(setting.output).write(str(place.relative_to(setting.output)), json.dumps(theirs).encode())
        assert interrupted.wait(timeout=PATIENCE_S)
        raise KeyboardInterrupt  # as `interrupt` would
    assert raised.value.code == "run-replaced"
    assert json.loads(place.read_text())["run"] == "run-elsewhere", "it is theirs"


def test_a_lease_is_renewed(setting: RunSettings) -> None:
    with take(setting):
        (place,) = leases(setting)
        first = json.loads(place.read_text())["renewed"]
        waits = threading.Event()
        for _ in range(PATIENCE_S * 10):
            if json.loads(place.read_text())["renewed"] != first:
                break
            waits.wait(0.1)
        assert json.loads(place.read_text())["renewed"] > first


def test_of_many_runs_at_once_one_gets_the_lease(setting: RunSettings) -> None:
    ready, done = threading.Barrier(6), threading.Barrier(6)
    took: list[int] = []

    def one(number: int) -> None:
        ready.wait()
        try:
            with take(setting, run=f"run {number}"):
                took.append(number)
                done.wait()
        except InputError:
            done.wait()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(took) == 1
