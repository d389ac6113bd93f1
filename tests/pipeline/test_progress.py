"""What a driver says of its run, and what `pipeline/status.py` makes of it."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import progress, status
from pipeline.progress import ProgressKeeper, ask_to_end
from pipeline.storage import Store
from supir_core.errors import InputError, StorageError
from tests.pipeline.runs import settings_for

ROW = {
    "status": "restored", "duplicate_of": None, "width": 1000, "height": 2000, "fetch_s": 0.5, "caption_s": None,
    "restore_s": 3.0, "networks_s": 2.0, "commit_s": 0.25,
}  # fmt: skip
FAILED: dict[str, Any] = dict.fromkeys(ROW) | {"status": "failed"}
SKIPPED: dict[str, Any] = dict.fromkeys(ROW) | {"status": "skipped", "fetch_s": 0.5}


def keeper(store: Store, run: str = "run-1", todo: int = 5, **more: Any) -> ProgressKeeper:
    return ProgressKeeper(store, run, todo, (2, 1.0), lambda: 2.0, **more)


def begin(tmp_path: Path, run: str, **changes: Any) -> Store:
    settings = settings_for(tmp_path / "in", tmp_path / "out", run=run)
    store = Store(settings.output)
    settings.save(store, **changes)
    return store


def test_rows_add_up_and_are_there_while_the_run_goes_on(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1")
    with keeper(store, every_s=0.05) as kept:
        found = progress.read(store, "run-1")
        assert found is not None and (found.state, found.todo, found.restored) == (progress.RUNNING, 5, 0)
        kept.add([ROW, FAILED, ROW | {"duplicate_of": "x", "networks_s": None}, SKIPPED])
        end = time.monotonic() + 30
        while (found := progress.read(store, "run-1")) is None or not found.restored:
            assert time.monotonic() < end
        assert (found.restored, found.failed, found.skipped) == (2, 1, 1)
        assert (found.megapixels, found.gpus) == (2.0, 2.0)
        assert found.seconds == {"fetch_s": 1.5, "caption_s": 0.0, "restore_s": 6.0, "networks_s": 2.0, "commit_s": 0.5}
        assert kept.left == 1 and found.gpu_seconds > 0
        kept.ended(True)
    found = progress.read(store, "run-1")
    assert found is not None and found.state == progress.FINISHED


def test_photos_that_end_together_have_taken_as_long_as_the_first(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1")
    with keeper(store) as kept:
        kept.add([ROW, ROW])
    found = progress.read(store, "run-1")
    assert found is not None and found.working_seconds >= 0.5 + 3.0 + 0.25


def test_a_run_that_leaves_photos_without_an_error_is_interrupted(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1")
    with keeper(store):
        pass
    found = progress.read(store, "run-1")
    assert found is not None and found.state == progress.INTERRUPTED


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt, "interrupted"), (RuntimeError, "broken")])
def test_how_a_run_ended_is_said(tmp_path: Path, error: type[BaseException], state: str) -> None:
    store = begin(tmp_path, "run-1")
    with pytest.raises(error), keeper(store):
        raise error
    found = progress.read(store, "run-1")
    assert found is not None and found.state == state


def test_a_run_hears_that_it_is_to_end(tmp_path: Path) -> None:
    store, asked = begin(tmp_path, "run-1"), []
    with keeper(store, end=lambda: asked.append(1), every_s=0.02):
        time.sleep(0.1)
        assert asked == []
        ask_to_end(store, "run-1")
        end = time.monotonic() + 30
        while not asked:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.1)
    assert asked == [1]


def test_neither_a_store_nor_a_cluster_that_fails_ends_the_run(tmp_path: Path) -> None:
    class Broken(Store):
        def write(self, path: str, data: bytes) -> None:
            raise StorageError("down")

    def gone() -> float:
        raise RuntimeError("no cluster")

    with ProgressKeeper(Broken(str(tmp_path)), "run-1", 5, (1, 1.0), gone, every_s=0.01) as kept:
        kept.add([ROW])
        time.sleep(0.1)
    assert kept.progress.restored == 1


def written(store: Store, run: str, **changes: Any) -> None:
    """A progress as it could stand there."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    values = {
        "run": run, "state": "running", "begun": now, "updated": now, "todo": 100, "workers": 2, "worker_gpus": 1.0,
        "restored": 18, "failed": 2, "megapixels": 90.0, "gpus": 2.0, "gpu_seconds": 7200.0, "working_seconds": 60.0,
        "seconds": {"fetch_s": 2.0, "caption_s": 0.0, "restore_s": 140.0, "networks_s": 90.0, "commit_s": 10.0},
    }  # fmt: skip
    store.write(progress.path_of(run), json.dumps(values | changes).encode())


def test_a_run_by_its_numbers(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1", submission="supir-out-1")
    written(store, "run-1")
    (run,) = status.read(store)
    assert (run.state, run.left, run.megapixels_per_s, run.gpu_hours) == ("running", 80, 1.5, 2.0)
    assert run.eta_s == pytest.approx(80 * 60 / 20) and run.gpus_busy == pytest.approx(1.5)
    assert run.stages()[0] == ("networks", 4.5) and run.stages()[1] == ("waiting for networks", 2.5)
    assert [name for name, _ in run.stages()] == ["networks", "waiting for networks", "commit", "fetch"]
    now = time.time()
    assert (
        status.of_submission(store, "supir-out-1", now) == run and status.of_submission(store, "another", now) is None
    )
    assert status.of_submission(store, "supir-out-1", now + 60) is None  # a job of the same id, which has not begun yet


def test_a_run_that_is_silent_is_lost(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1")
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    written(store, "run-1", updated=then.isoformat())
    (run,) = status.read(store)
    assert run.state == status.LOST and run.eta_s is None and run.silent_s >= 300


def test_the_newest_run_of_every_look_counts(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1")
    for name in ("run-2", "run-3"):
        begin(tmp_path, name)
        written(store, name)
    written(store, "run-1", state="finished", an_unknown_key=1)
    store.write("runs/run-9/progress.json", b"no json")
    runs = status.read(store)
    assert [run.progress.run for run in runs] == ["run-3", "run-2", "run-1"]
    assert [run.progress.run for run in status.newest(runs)] == ["run-3"]


def test_an_output_without_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs in") as error:
        status.read(Store(str(tmp_path)))
    assert error.value.code == "no-runs"
