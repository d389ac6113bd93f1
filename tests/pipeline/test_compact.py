"""Many small parts become few: no row lost, none twice, and nobody who reads or writes meanwhile notices."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import index, rows
from pipeline.compact import Compaction, compact
from pipeline.index import IndexWriter
from pipeline.storage import Store
from supir_core.errors import InputError, StorageError
from tests.pipeline.runs import REPOSITORY
from tests.pipeline.test_index import row, write

READER = """
import sys
from pathlib import Path
from tests.pipeline.test_compact import read_until
read_until(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
"""
STEADY = """
    select (select count(*) from photos where photo_id like 'old-%') as photos,
           (select count(*) from every_row where photo_id like 'old-%') as every_row
"""


def read_until(output: str, stop: Path, expected: int) -> None:
    """Query an index until a file is there; every answer must be the same."""
    answers = 0
    while not stop.exists():
        (found,) = index.query(Store(output), STEADY).to_pylist()
        assert found == {"photos": expected, "every_row": expected + 1}, found
        answers += 1
        print(answers, flush=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out [1] #ü"))


def parts(store: Store) -> dict[str, bytes]:
    return {entry.path: store.read(entry.path) for entry in store.entries("index")}


def every_row(store: Store) -> list[rows.Row]:
    return index.query(store, "select * from every_row order by photo_id, finished_at").to_pylist()


def fill(store: Store, count: int = 12) -> None:
    """Parts of three runs; photo-0 has an older row, too."""
    write(store, "r0", row("photo-0", -1, status=rows.FAILED, error_code="storage", warnings=["first-page-only"]))
    for number in range(count):
        write(store, f"r{number % 2 + 1}-{number}", row(f"photo-{number}", number, tau_r=0.5, sha256="é" * 32))


def test_rows_stay_what_they_were(store: Store) -> None:
    fill(store)
    before = every_row(store)
    done = compact(store)
    assert every_row(store) == before and len(before) == 13
    assert (done.parts_before, done.parts_after, done.rows) == (13, 1, 13)
    assert done.bytes_after == sum(map(len, parts(store).values())) < done.bytes_before
    assert len(index.query(store, "select * from photos")) == 12


def test_others_read_it_as_it_lies(store: Store) -> None:
    fill(store)
    before = every_row(store)
    compact(store)
    write(store, "r9", row("photo-99"))
    folder = Path(store.uri()) / "index"
    assert all(pq.read_schema(part).equals(rows.INDEX) for part in folder.iterdir())
    plain = ds.dataset(folder, format="parquet").to_table().to_pylist()
    assert [r for r in plain if r["photo_id"] != "photo-99"] == before
    escaped = str(folder).replace("[", "[[]")
    assert duckdb.sql(f"select count(*), count(distinct photo_id) from '{escaped}/*.parquet'").fetchall() == [(14, 13)]


def test_a_second_time_there_is_nothing_to_do(store: Store) -> None:
    fill(store)
    compact(store)
    before = parts(store)
    assert compact(store) == Compaction(1, 1, 13, len(*before.values()), len(*before.values()))
    assert parts(store) == before


def test_merged_parts_are_merged_again_while_they_are_small(store: Store) -> None:
    fill(store, 3)
    compact(store, part_rows=10)
    write(store, "r7", row("late"))
    assert compact(store, part_rows=10).parts_after == 1, "four rows, then one more"
    for number in range(13):
        write(store, f"r8-{number:02d}", row(f"later-{number}"))
    done = compact(store, part_rows=10)
    assert (done.parts_before, done.parts_after, done.rows) == (14, 3, 18)
    assert sorted(pq.read_metadata(f"{store.uri()}/{part}").num_rows for part in parts(store)) == [3, 5, 10]
    assert len(every_row(store)) == 18


def test_what_a_killed_compaction_leaves_is_read_once_and_mended(store: Store) -> None:
    """Killed before or amid deleting: the merged part is there, and so are old ones."""
    fill(store)
    before, old = every_row(store), parts(store)
    compact(store)
    for path in list(old)[3:9]:
        store.write(path, old[path])
    write(store, "r9", row("photo-99", 99))
    assert len(ds.dataset(Path(store.uri()) / "index").to_table()) == 13 + 6 + 1
    assert every_row(store)[: len(before)] != [] and len(every_row(store)) == 14
    assert [r for r in every_row(store) if r["photo_id"] != "photo-99"] == before
    compact(store)
    assert len(parts(store)) == 1 and len(every_row(store)) == 14


def test_killed_before_the_merged_part_is_whole_nothing_has_changed(store: Store) -> None:
    fill(store)
    before = every_row(store)
    store.write("index/.part-0123", b"PAR1 and no more")
    assert every_row(store) == before
    assert compact(store).rows == 13


def test_two_at_once_lose_nothing_and_the_next_one_mends_it(store: Store) -> None:
    fill(store, 4)
    before, old = every_row(store), parts(store)
    compact(store)
    (first,) = parts(store).items()
    store.remove(first[0])
    for path in old:
        store.write(path, old[path])
    write(store, "r9", row("photo-99", 99))  # which only the second one saw
    compact(store)
    store.write(*first)
    assert len(parts(store)) == 2
    assert len(index.query(store, "select * from photos")) == 5
    compact(store)
    assert len(parts(store)) == 1
    assert [r for r in every_row(store) if r["photo_id"] != "photo-99"] == before


def test_a_run_goes_on_meanwhile(store: Store) -> None:
    """Its parts are its own; those it has written are merged, those it writes then are not touched."""
    fill(store)
    with IndexWriter(store, "r5") as writer:
        for number in range(3):
            writer.append([row(f"now-{number}")])
            writer.flush()
            compact(store)
        writer.append([row("now-3")])
    assert len(every_row(store)) == 13 + 4
    assert [path for path in parts(store) if "merged" not in path] == ["index/r5-000003.parquet"]


def test_columns_of_another_version_are_kept(store: Store) -> None:
    write(store, "r1", row("a"))
    newer = rows.table([row("b")], rows.INDEX).append_column("from_the_future", pa.array([7]))
    pq.write_table(newer, f"{store.uri()}/index/r2-000000.parquet")
    older = rows.table([row("c")], rows.INDEX).drop_columns(["supir_version"])
    pq.write_table(older, f"{store.uri()}/index/r3-000000.parquet")
    compact(store)
    (part,) = parts(store)
    merged = pq.read_table(f"{store.uri()}/{part}")
    assert dict(zip(*merged.select(["photo_id", "from_the_future"]).to_pydict().values(), strict=True)) == {
        "a": None,
        "b": 7,
        "c": None,
    }
    assert len(every_row(store)) == 3


def test_a_damaged_part_stops_it_before_anything_is_touched(store: Store) -> None:
    fill(store)
    store.write("index/r0-999999.parquet", b"PAR1 but not for long")
    before = parts(store)
    with pytest.raises(StorageError, match=r"r0-999999\.parquet"):
        compact(store)
    assert parts(store) == before


def test_no_index(store: Store) -> None:
    with pytest.raises(InputError) as error:
        compact(store)
    assert error.value.code == "no-index"


def test_progress_is_told_in_rows(store: Store) -> None:
    fill(store)
    told: list[tuple[int, int]] = []
    compact(store, lambda done, total: told.append((done, total)))
    assert told == [(13, 13)]


def test_a_reader_in_another_process_sees_every_row_once_at_all_times(store: Store, tmp_path: Path) -> None:
    check_readers(store.uri(), tmp_path, rounds=12)


def check_readers(output: str, here: Path, rounds: int) -> None:
    """Compact a growing index again and again, under a reader's eyes; also for an index in an object store."""
    store, stop = Store(output), here / "stop"
    old = [row(f"old-{number}", number) for number in range(20)]
    write(store, "first", *old[:10])
    write(store, "second", *old[10:], row("old-0", 99, finished_at=datetime.datetime.now(datetime.UTC)))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, output, str(stop), "20"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert reader.stdout is not None
    try:
        for number in range(rounds):
            for part in range(8):
                write(store, f"run-{number:03d}-{part}", row(f"new-{number}-{part}"))
            assert reader.stdout.readline() or reader.poll() is None, reader.communicate()[1]
            compact(store)
    finally:
        stop.touch()
        _, said = reader.communicate(timeout=300)
    assert reader.returncode == 0, said
    assert len(list(store.entries("index"))) == 1
