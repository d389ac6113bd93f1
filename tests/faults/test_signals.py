"""SIGINT and SIGTERM: the first finishes what has been begun, the second stops at once; both can be gone on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import rows
from tests.faults.test_kill_driver import PATIENCE_S, REPOSITORY, alive, wait_until
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import plan_for, raw_rows, settings_for, view

PHOTOS = 12
FOR_EVER = 10**6


class Run:
    """A run as a process that leads a group, as a shell starts it in the foreground."""

    def __init__(self, folder: Path, name: str, seconds: float, *, before: str = "", **more: Any):
        self.orders = Pretend(folder / name)
        words = [sys.executable, "-m", "tests.faults.driver", folder / "in", folder / "out", self.orders.journal]
        command = ["bash", "-c", f'{before} exec "$@"', "bash", *map(str, [*words, seconds, json.dumps(more)])]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def signal(self, number: int, group: bool) -> None:
        assert self.process.poll() is None, self.process.communicate()
        (os.killpg if group else os.kill)(self.process.pid, number)

    def ended(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said

    def wait_for_line(self, start: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return
        raise AssertionError(f"ended without {start}")

    def wait_for_batches(self, count: int) -> None:
        def begun() -> bool:
            assert self.process.poll() is None, f"ended too early: {self.process.communicate()}"
            return len(self.orders.batches()) >= count

        wait_until(begun, f"{count} batches have been begun")

    def workers(self) -> set[int]:
        return {pid for pid, _ in self.orders.batches()}


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Starts runs; what a failed test leaves is killed."""
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n) for n in range(PHOTOS)})
    runs: list[Run] = []

    def one(seconds: float, **more: Any) -> Run:
        runs.append(Run(tmp_path, f"journal {len(runs)}", seconds, **more))
        return runs[-1]

    yield one
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


Start = Callable[..., Run]


def go_on(start: Start, folder: Path, *runs: Run) -> Counter[str]:
    """The rest, by the same command; how often each photo was begun in all of these runs."""
    last = start(0)
    assert last.ended()[0] == 0
    found = view(folder / "out")
    assert len(found) == len(raw_rows(folder / "out")) == PHOTOS
    assert {row["status"] for row in found.values()} == {rows.RESTORED}
    assert list((folder / "out" / "runs" / "leases").rglob("*.json")) == [], "the lease was given back"
    return sum((run.orders.begun() for run in (*runs, last)), Counter())


@pytest.mark.parametrize(
    ("number", "group", "before"),
    [
        (signal.SIGINT, True, ""),  # Ctrl-C
        (signal.SIGTERM, False, ""),
        (signal.SIGINT, False, "trap '' INT;"),  # ignored from birth
    ],
)
def test_the_first_signal_finishes_what_has_been_begun(
    start: Start, tmp_path: Path, number: int, group: bool, before: str
) -> None:
    run = start(1.5, before=before)
    run.wait_for_batches(2)
    run.signal(number, group)
    code, said = run.ended()
    assert code == 130, said
    assert "the same signal again (Ctrl-C) stops at once" in said and "Traceback" not in said
    indexed = set(view(tmp_path / "out"))
    assert indexed == set(run.orders.begun()), "what was begun stands in the index, and nothing else"
    assert 2 <= len(indexed) < PHOTOS
    wait_until(lambda: not any(alive(pid) for pid in run.workers()), "the workers are gone")
    if group:
        assert set(go_on(start, tmp_path, run).values()) == {1}, "nothing is done twice"


def test_the_second_signal_stops_at_once(start: Start, tmp_path: Path) -> None:
    run = start(FOR_EVER)
    run.wait_for_batches(1)
    run.signal(signal.SIGINT, group=True)
    run.wait_for_line("stopping: ")
    run.signal(signal.SIGTERM, group=False)
    code, said = run.ended()
    assert code == 130 and "Traceback" not in said, said
    wait_until(lambda: not any(alive(pid) for pid in run.workers()), "the workers are gone")
    go_on(start, tmp_path, run)


def test_a_signal_before_anything_was_begun_ends_the_run(start: Start, tmp_path: Path) -> None:
    """Networks load for minutes: nobody is waited for."""
    run = start(0, pretend={"loading_s": FOR_EVER})
    leases = tmp_path / "out" / "runs" / "leases"
    wait_until(lambda: bool(list(leases.rglob("*.json"))), "the run holds its lease")
    wait_until(lambda: bool(children(run.process.pid)), "Ray starts")
    run.signal(signal.SIGINT, group=True)
    code, said = run.ended()
    assert code == 130 and "Traceback" not in said, said
    assert list(leases.rglob("*.json")) == [], "the lease was given back"


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")


def test_a_run_is_refused_while_another_one_is_at_it(start: Start, tmp_path: Path) -> None:
    run = start(FOR_EVER)
    run.wait_for_batches(1)
    code, said = start(0).ended()
    assert code == 1 and f"(process {run.process.pid}) restores preset" in said
    run.process.kill()
    run.process.wait()
    go_on(start, tmp_path, run)
    assert plan_for(settings_for(tmp_path / "in", tmp_path / "out")).todo.num_rows == 0
