"""The index is plain Parquet; `photos` shows the newest row per photo and look."""

from __future__ import annotations

import datetime
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline import index, rows
from pipeline.index import IndexWriter
from pipeline.storage import Store
from supir_core.errors import InputError, StorageError

EPOCH = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def row(photo_id: str, minute: int = 0, **values: object) -> rows.Row:
    return {
        "photo_id": photo_id,
        "status": rows.RESTORED,
        "preset": "demo",
        "preset_digest": "d" * 12,
        "model_digest": "m" * 12,
        "source_version": "v1",
        "warnings": [],
        "width": 100,
        "height": 50,
        "finished_at": EPOCH + datetime.timedelta(minutes=minute),
        **values,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out [1] #ü"))


def write(store: Store, run: str, *new: rows.Row) -> None:
    with IndexWriter(store, run) as writer:
        writer.append(new)


def test_rows_are_written_when_the_run_ends(store: Store) -> None:
    with IndexWriter(store, "r1") as writer:
        writer.append([row("a"), row("b")])
        assert not index.exists(store)
    assert index.query(store, "select photo_id from photos order by 1")["photo_id"].to_pylist() == ["a", "b"]


def test_rows_are_written_when_the_run_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), IndexWriter(store, "r1") as writer:
        writer.append([row("a")])
        _ = 1 / 0
    assert index.exists(store)


def test_rows_are_written_while_the_run_goes_on(store: Store) -> None:
    with IndexWriter(store, "r1") as writer:
        writer.append([row(f"{n}") for n in range(index.FLUSH_ROWS)])
        assert index.query(store, "select count(*) as n from photos")["n"].to_pylist() == [index.FLUSH_ROWS]
        writer.append([row("late")])
    assert len(list(store.entries("index"))) == 2, "a part is never rewritten"


def test_a_run_without_rows_leaves_no_part(store: Store) -> None:
    write(store, "r1")
    assert not index.exists(store)


def test_two_runs_do_not_overwrite_each_other(store: Store) -> None:
    write(store, "r1", row("a"))
    write(store, "r2", row("b"))
    assert index.query(store, "select count(*) as n from photos")["n"].to_pylist() == [2]


def test_the_newest_row_of_a_photo_and_look_counts(store: Store) -> None:
    write(store, "r2", row("a", 2, status=rows.RESTORED), row("b", 1))
    write(store, "r1", row("a", 1, status=rows.FAILED), row("a", 1, preset_digest="e" * 12, status=rows.FAILED))
    found = index.query(store, "select photo_id, preset_digest, status from photos order by all").to_pylist()
    assert [tuple(r.values()) for r in found] == [
        ("a", "d" * 12, "restored"),
        ("a", "e" * 12, "failed"),
        ("b", "d" * 12, "restored"),
    ]


def test_the_parts_have_the_contract_as_their_schema(store: Store) -> None:
    write(store, "r1", row("a"))
    write(store, "r2", row("b", status=rows.FAILED, error_code="empty", width=None, height=None))
    for part in (Path(store.uri()) / "index").iterdir():
        assert pq.read_schema(part).equals(rows.INDEX)


def test_anybody_can_read_it(store: Store) -> None:
    write(store, "r1", row("a"), row("b"))
    folder = Path(store.uri()) / "index"
    assert ds.dataset(folder, format="parquet").count_rows() == 2
    escaped = str(folder).replace("[", "[[]")
    (found,) = duckdb.sql(f"select count(*), min(finished_at)::varchar from '{escaped}/*.parquet'").fetchall()
    assert found[0] == 2 and found[1].startswith("20")


def test_pandas_can_read_it(store: Store) -> None:
    pandas = pytest.importorskip("pandas")
    write(store, "r1", row("a"), row("b"))
    frame = pandas.read_parquet(Path(store.uri()) / "index")
    assert list(frame.columns) == rows.INDEX.names
    assert str(frame["finished_at"].dt.tz) == "UTC"


def test_no_index(store: Store) -> None:
    with pytest.raises(InputError, match="no index") as error:
        index.query(store, "select 1")
    assert error.value.code == "no-index"


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select nothing from photos", "nothing"),
        ("selekt 1", "syntax error"),
        ("select * from pictures", "pictures"),
        ("", "no rows"),
        ("select 'x'::int from photos", "Conversion"),
    ],
)
def test_wrong_queries(store: Store, sql: str, says: str) -> None:
    write(store, "r1", row("a"))
    with pytest.raises(InputError, match=says) as error:
        index.query(store, sql)
    assert error.value.code == "sql" and error.value.hint
    assert "\n" not in str(error.value)


def test_a_damaged_part_is_a_clear_error(store: Store) -> None:
    write(store, "r1", row("a"))
    store.write("index/r0-000000.parquet", b"PAR1 but not for long")
    with pytest.raises(StorageError, match=r"r0-000000\.parquet") as error:
        index.query(store, "select * from photos")
    assert "\n" not in str(error.value) and "delete" in error.value.hint
