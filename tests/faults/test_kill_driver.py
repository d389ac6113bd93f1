"""kill -9 of a run, twice, and a rerun: every photo exactly once, nothing lost, nothing done again."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pipeline import rows
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import plan_for, raw_rows, settings_for, view

REPOSITORY = Path(__file__).parents[2]
PHOTOS = 24
SECONDS = 0.7  # of a batch of up to two photos
PATIENCE_S = 600.0  # far beyond what it takes: a busy machine is no failure


def start(source: Path, output: Path, journal: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.driver", str(source), str(output), str(journal), str(SECONDS)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def kill(driver: subprocess.Popen[bytes], journal: Path) -> None:
    """SIGKILL to the driver alone; its workers must follow by themselves."""
    assert driver.poll() is None, "the run has ended too early to be killed"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    workers = {pid for pid, _ in Pretend(journal).batches()}
    assert workers
    wait_until(lambda: not any(alive(pid) for pid in workers), "the workers are gone")


def records(output: Path) -> dict[str, tuple[int, bytes]]:
    """Time of writing and content of every record, by path."""
    found = {}
    for path in (output / "records").rglob("*.json"):
        found[str(path.relative_to(output))] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


def parts(output: Path) -> int:
    return len(list((output / "index").glob("*.parquet")))


def test_a_run_that_is_killed_twice_goes_on_where_it_was(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    put(source, {f"sub-{n % 3}/{n:02d}.jpg": jpeg(n) for n in range(PHOTOS - 1)} | {"empty.jpg": b""})
    journals = [tmp_path / f"journal {n}" for n in range(3)]

    driver = start(source, output, journals[0])
    wait_until(lambda: len(records(output)) >= 3, "three photos have records")
    kill(driver, journals[0])
    after_first = records(output)
    assert 3 <= len(after_first) < PHOTOS

    driver = start(source, output, journals[1])
    wait_until(
        lambda: parts(output) > 0 and len(records(output)) >= len(after_first) + 4, "there are a part and more records"
    )
    kill(driver, journals[1])
    after_second = records(output)
    assert len(after_first) < len(after_second) < PHOTOS
    indexed = len(raw_rows(output))
    assert 0 < indexed <= len(after_second)

    assert start(source, output, journals[2]).wait(timeout=PATIENCE_S) == 0

    at_the_end = records(output)
    assert len(at_the_end) == PHOTOS
    assert {path: at_the_end[path] for path in after_first} == after_first, "nothing with a record was done again"
    assert {path: at_the_end[path] for path in after_second} == after_second

    found = view(output)
    assert len(found) == len(raw_rows(output)) == PHOTOS
    assert {key for key, row in found.items() if row["status"] == rows.FAILED} == {"empty.jpg"}
    for row in found.values():
        if row["image"]:
            assert hashlib.sha256((output / row["image"]).read_bytes()).hexdigest() == row["sha256"]
    pictures = [
        path for path in (output / "images").rglob("*") if path.is_file() and not path.name.startswith(".part-")
    ]
    assert len(pictures) == PHOTOS - 1
    assert len({row["run"] for row in found.values()}) == 3, "each of the three has done its share"

    begun = sum((Pretend(journal).begun() for journal in journals), Counter())
    assert all(1 <= count <= 3 for count in begun.values())
    assert sum(begun.values()) <= PHOTOS - 1 + 2 * 2, "a kill costs at most the batch that was in the networks"
    assert plan_for(settings_for(source, output)).todo.num_rows == 0
