"""Two workers with one photo, answers that are lost, workers that die in between: picture, record and row agree."""

from __future__ import annotations

import datetime
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import claims, commit, replacing, rows
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import StorageError

LOOK = "demo-0123456789ab"
PATH = "a/b.jpg"


class Died(BaseException):
    """What a SIGKILL is to a worker that runs as a thread."""


class Meddled(Store):
    """A folder; somebody else acts before every call that a commit makes, or the answer of a write is lost.

    Args:
        root: the folder.
        before: called before every operation with its number.
        lost: numbers of writes whose answer is lost: done, and then refused, as the client tries them again.
    """

    def __init__(self, root: str, before: Callable[[int], None] = lambda n: None, lost: tuple[int, ...] = ()):
        super().__init__(root)
        self._before, self._lost = before, lost
        self._operations, self._writes = 0, 0

    def _step(self) -> None:
        self._before(self._operations)
        self._operations += 1

    def read(self, path: str = "") -> bytes:
        self._step()
        return super().read(path)

    def tag(self, path: str) -> str | None:
        self._step()
        return super().tag(path)

    def write_if(self, path: str, data: bytes, tag: str | None) -> bool:
        self._step()
        written = super().write_if(path, data, tag)
        self._writes += 1
        if written and self._writes in self._lost:
            return super().write_if(path, data, tag)
        return written


def row(run: str, **values: object) -> Row:
    return {
        "photo_id": PATH,
        "status": rows.RESTORED,
        "format": "png",
        "preset_digest": "p",
        "model_digest": "m",
        "caption": "",
        "caption_source": "none",
        "source_version": "v1",
        "source_sha256": "s",
        "run": run,
        "finished_at": datetime.datetime.now(datetime.UTC),
        **values,
    }


def state(folder: Path) -> tuple[str | None, Row | None]:
    """The picture's sha256 and the record."""
    store = Store(str(folder))
    picture = store.read_if_any(commit.image_path(LOOK, PATH, "png"))
    return hashlib.sha256(picture).hexdigest() if picture else None, commit.find(store, LOOK, PATH, PATH)


def put(store: Store, run: str, stands: Callable[[Row], bool] = lambda found: True, **options: float) -> Row:
    return commit.commit(store, LOOK, PATH, row(run), f"picture of {run}".encode(), stands, **options)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), writers=st.integers(2, 3), old=st.booleans())
def test_workers_at_the_same_time_come_to_one_result(
    tmp_path_factory: pytest.TempPathFactory, seed: int, writers: int, old: bool
) -> None:
    folder = tmp_path_factory.mktemp("out")
    if old:
        put(Store(str(folder)), "an earlier run")
    chance = random.Random(seed)
    found: dict[int, Row] = {}

    def work(number: int, delays: Iterator[float]) -> None:
        store = Meddled(str(folder), before=lambda n: time.sleep(next(delays)))
        found[number] = put(store, f"{number}", lambda other: other["run"] != "an earlier run", wait_s=20)

    def delays(own: random.Random) -> Iterator[float]:
        while True:
            yield own.choice([0, 0, 0.001, 0.004])

    threads = [threading.Thread(target=work, args=(n, delays(random.Random(chance.random())))) for n in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lying, record = state(folder)
    assert record is not None and record["sha256"] == lying
    assert [found[n]["sha256"] for n in range(writers)] == [lying] * writers
    assert len({found[n]["run"] for n in range(writers)}) == 1, "all return one row"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("death", range(9))
def test_a_worker_that_dies_anywhere_leaves_what_the_next_one_mends(tmp_path: Path, death: int, old: bool) -> None:
    def stands(other: Row) -> bool:
        return other["run"] != "an earlier run" and commit.is_true(Store(str(tmp_path)), other)

    if old:
        put(Store(str(tmp_path)), "an earlier run")

    def die(operation: int) -> None:
        if operation == death:
            raise Died

    with suppress(Died):
        put(Meddled(str(tmp_path), before=die), "1", stands)
    came = put(Store(str(tmp_path)), "2", stands, wait_s=0.05)
    lying, record = state(tmp_path)
    assert record is not None and record["sha256"] == lying == came["sha256"]
    assert (record["run"], came["run"]) in [("1", "1"), ("2", "2")]


@pytest.mark.parametrize("lost", [(1,), (2,), (1, 2)])
def test_a_write_whose_answer_is_lost_is_ours(tmp_path: Path, lost: tuple[int, ...]) -> None:
    came = put(Meddled(str(tmp_path), lost=lost), "1", wait_s=3600)
    assert came["run"] == "1"
    lying, record = state(tmp_path)
    assert record is not None and record["sha256"] == lying == came["sha256"]


def test_a_late_worker_takes_the_record_that_it_finds(tmp_path: Path) -> None:
    first = put(Store(str(tmp_path)), "1")
    late = put(Store(str(tmp_path)), "2")
    assert (late["run"], late["sha256"]) == ("1", first["sha256"])
    failed = commit.commit(Store(str(tmp_path)), LOOK, PATH, row("3", status=rows.FAILED), None, lambda found: True)
    assert failed["run"] == "1"


def test_a_picture_makes_good_for_a_failure(tmp_path: Path) -> None:
    commit.commit(Store(str(tmp_path)), LOOK, PATH, row("1", status=rows.FAILED, error_code="storage"), None)
    assert put(Store(str(tmp_path)), "2")["run"] == "2"
    assert state(tmp_path)[1]["run"] == "2"  # type: ignore[index]


def test_a_store_where_others_always_write_first_is_an_error(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    image = commit.image_path(LOOK, PATH, "png")
    meddled = Meddled(str(tmp_path), before=lambda n: store.write(image, f"{n}".encode()))
    with pytest.raises(StorageError, match="is being written by others"):
        put(meddled, "1", wait_s=0)


def test_before_a_finished_picture_is_overwritten_nothing_points_at_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    old = put(store, "1")
    work = claims.work_of(old)
    claims.make(store, LOOK, work, claims.Claim(PATH, PATH, "1"), None)

    def look(operation: int) -> None:
        seen.append((claims.find(store, LOOK, work), replacing.is_marked(store, LOOK, PATH), state(tmp_path)[0]))

    seen: list[tuple[claims.Claim | None, bool, str | None]] = []
    new = put(Meddled(str(tmp_path), before=look), "2", stands=lambda found: found["run"] == "2")
    assert new["run"] == "2" and seen[0] == (claims.Claim(PATH, PATH, "1"), False, old["sha256"])
    assert all(claim is None and marked for claim, marked, picture in seen if picture != old["sha256"])
    assert seen[-1][2] == new["sha256"]
    assert replacing.marked(store, LOOK) == [PATH]
    replacing.unmark(store, LOOK, [PATH, "another"])
    assert replacing.marked(store, LOOK) == []


def test_a_claim_of_another_photo_stays(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    work = claims.work_of(put(store, "1"))
    claim = claims.Claim("twin.jpg", "twin.jpg", "1")
    claims.make(store, LOOK, work, claim, None)
    claims.make(store, LOOK, work, claims.Claim(PATH, PATH, "1"), None)
    put(store, "2", stands=lambda found: False)
    assert claims.find(store, LOOK, work) == claim, "the first one stands"
    claims.make(store, LOOK, work, claims.Claim(PATH, PATH, "2"), claim)
    assert claims.find(store, LOOK, work) == claims.Claim(PATH, PATH, "2"), "unless it is known not to hold"


@pytest.mark.parametrize("first", ["withdraw", "make"])
@pytest.mark.parametrize("step", range(5))
def test_a_claim_is_taken_over_while_it_is_withdrawn(tmp_path: Path, first: str, step: int) -> None:
    """Whichever of the two comes in between, before any operation of the other: the new claim stands."""
    store = Store(str(tmp_path))
    old, mine = put(store, "1"), claims.Claim("twin.jpg", "twin.jpg", "2")
    work, theirs = claims.work_of(old), claims.Claim(PATH, PATH, "1")
    claims.make(store, LOOK, work, theirs, None)

    def withdraw(store: Store) -> None:
        claims.withdraw(store, LOOK, old)

    def make(store: Store) -> None:
        claims.make(store, LOOK, work, mine, theirs)

    outer, inner = (withdraw, make) if first == "withdraw" else (make, withdraw)
    outer(Meddled(str(tmp_path), before=lambda n: inner(store) if n == step else None))
    inner(store)
    assert claims.find(store, LOOK, work) == mine
