"""Verify finds what is missing, changed or too much, and has nothing to say of an output that is whole."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from pipeline import commit, rows, verify
from pipeline.index import IndexWriter
from pipeline.storage import Store
from pipeline.verify import Problem, check, take_stock
from supir_core.errors import InputError
from tests.pipeline.test_index import EPOCH

LOOK = "demo-dddddddddddd"


def commit_row(store: Store, photo: str, picture: bytes | None, *, minute: int = 0, **values: object) -> rows.Row:
    """A photo as a worker commits it: picture, record, and the row that goes to the index."""
    row = {
        "photo_id": photo,
        "status": rows.RESTORED if picture is not None else rows.FAILED,
        "error_code": None if picture is not None else "truncated",
        "preset": "demo",
        "preset_digest": "d" * 12,
        "model_digest": "m" * 12,
        "format": "png",
        "source_version": "v1",
        "finished_at": EPOCH + datetime.timedelta(minutes=minute),
        "warnings": [],
        **values,
    }
    commit.commit(store, LOOK, photo, row, picture)
    return row


def index_rows(store: Store, run: str, *new: rows.Row) -> None:
    with IndexWriter(store, run) as writer:
        writer.append(new)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An output that is whole: three pictures, a failure, things that are nobody's business."""
    store = Store(str(tmp_path / "out [1] #ü"))
    names = ("a.jpg", "sub [x]/b.c.tif", "new\nline.png")
    done = [commit_row(store, name, name.encode()) for name in names]
    index_rows(store, "r1", *done, commit_row(store, "half.jpg", None))
    for other in ("claims/a.jpg.json", "runs/leases/lease.json", "runs/r1/run.json", "report.html", "images/x/.part-1"):
        store.write(other, b"{}")
    return store


def problems(store: Store, fast: bool = False) -> list[Problem]:
    return sorted(check(store, take_stock(store), fast))


def found(store: Store, fast: bool = False) -> list[tuple[str, str]]:
    return [(problem.what, problem.path) for problem in problems(store, fast)]


both = pytest.mark.parametrize("fast", [False, True])


@both
def test_an_output_that_is_whole(store: Store, fast: bool) -> None:
    assert problems(store, fast) == []


def test_what_is_looked_at(store: Store) -> None:
    told: list[tuple[int, int]] = []
    list(check(store, take_stock(store), on_checked=lambda *count: told.append(count)))
    assert told == [(number, 7) for number in range(1, 8)], "three pictures, four records"
    told.clear()
    list(check(store, take_stock(store), fast=True, on_checked=lambda *count: told.append(count)))
    assert told == [(1, 1)], "the record of the failure"


@both
def test_a_missing_picture(store: Store, fast: bool) -> None:
    store.remove(f"images/{LOOK}/a.jpg.png")
    assert problems(store, fast) == [Problem("missing", f"images/{LOOK}/a.jpg.png", "a.jpg", "")]


@both
def test_a_picture_of_another_size(store: Store, fast: bool) -> None:
    store.write(f"images/{LOOK}/a.jpg.png", b"cut")
    (problem,) = problems(store, fast)
    assert problem[:3] == ("changed", f"images/{LOOK}/a.jpg.png", "a.jpg")
    assert problem.detail == "3 bytes instead of 5"


def test_a_picture_with_other_bytes_is_found_by_reading_it(store: Store) -> None:
    store.write(f"images/{LOOK}/a.jpg.png", b"A.jpg")
    assert problems(store, fast=True) == []
    assert problems(store) == [Problem("changed", f"images/{LOOK}/a.jpg.png", "a.jpg", "another sha256")]


def test_large_pictures_are_read_in_pieces(store: Store) -> None:
    content = bytes(range(256)) * (2 * verify.CHUNK_BYTES // 256)
    index_rows(store, "r2", *(commit_row(store, f"{n}.jpg", content + bytes(n)) for n in (0, 1)))
    assert problems(store) == []
    store.write(f"images/{LOOK}/0.jpg.png", content[:-1] + b"x")
    assert found(store) == [("changed", f"images/{LOOK}/0.jpg.png")]


@both
def test_a_picture_that_is_a_folder_now(store: Store, fast: bool) -> None:
    store.remove(f"images/{LOOK}/a.jpg.png")
    store.write(f"images/{LOOK}/a.jpg.png/inside", b"")
    assert found(store, fast) == [
        ("missing", f"images/{LOOK}/a.jpg.png"),
        ("orphan-picture", f"images/{LOOK}/a.jpg.png/inside"),
    ]


@both
def test_pictures_and_records_without_rows(store: Store, fast: bool) -> None:
    """Such as those of a run that was killed before it wrote the index, of two photos."""
    commit_row(store, "late.jpg", b"late")
    commit_row(store, "late and bad.jpg", None)
    assert found(store, fast) == [
        ("orphan-picture", f"images/{LOOK}/late.jpg.png"),
        ("orphan-record", f"records/{LOOK}/late and bad.jpg.json"),
        ("orphan-record", f"records/{LOOK}/late.jpg.json"),
    ]


@both
def test_a_missing_record(store: Store, fast: bool) -> None:
    store.remove(f"records/{LOOK}/sub [x]/b.c.tif.json")
    assert problems(store, fast) == [
        Problem("record-missing", f"records/{LOOK}/sub [x]/b.c.tif.json", "sub [x]/b.c.tif", "")
    ]


def test_a_failure_needs_no_record(store: Store) -> None:
    """It may have failed because nothing could be written."""
    store.remove(f"records/{LOOK}/half.jpg.json")
    assert problems(store) == []


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"{}", b'{"photo_id": 7}', b"\xff\xfe"])
def test_a_damaged_record(store: Store, content: bytes) -> None:
    store.write(f"records/{LOOK}/a.jpg.json", content)
    assert found(store) == [("record-unreadable", f"records/{LOOK}/a.jpg.json")]


def test_a_record_that_says_something_else(store: Store) -> None:
    path = f"records/{LOOK}/a.jpg.json"
    record = json.loads(store.read(path))
    store.write(path, json.dumps(record | {"sha256": "0" * 64, "bytes": 1}).encode())
    assert problems(store) == [Problem("record-differs", path, "a.jpg", "sha256, bytes")]


@both
def test_rows_may_share_a_picture(store: Store, fast: bool) -> None:
    """Of photos with the same content one is restored; the others' rows point at its picture."""
    index_rows(store, "r2", commit_row(store, "copy.jpg", None, status=rows.RESTORED, **shared(store)))
    assert problems(store, fast) == []
    store.remove(f"images/{LOOK}/a.jpg.png")
    assert found(store, fast) == [("missing", f"images/{LOOK}/a.jpg.png")]


def shared(store: Store) -> rows.Row:
    record = json.loads(store.read(f"records/{LOOK}/a.jpg.json"))
    return {"error_code": None, "duplicate_of": "a.jpg"} | {name: record[name] for name in ("image", "bytes", "sha256")}


@both
@pytest.mark.parametrize("photo", ["a.jpg", "half.jpg"])
def test_a_record_that_was_copied_elsewhere(store: Store, photo: str, fast: bool) -> None:
    elsewhere = f"records/{LOOK}/sub [x]/elsewhere.jpg.json"
    store.write(elsewhere, store.read(f"records/{LOOK}/{photo}.json"))
    assert ("orphan-record", elsewhere) in found(store, fast)
    assert ("orphan-record", f"records/{LOOK}/a.jpg.json") not in found(store, fast)


def test_older_rows_do_not_matter(store: Store) -> None:
    """The photo had changed and was restored again, in place; then it changed and failed."""
    index_rows(store, "r2", commit_row(store, "a.jpg", b"the second", minute=1, source_version="v2"))
    assert problems(store) == []
    index_rows(store, "r3", commit_row(store, "a.jpg", None, minute=2, source_version="v3"))
    assert problems(store) == [], "the picture of the second row is no orphan"


def test_a_record_that_is_newer_than_the_index(store: Store) -> None:
    commit_row(store, "a.jpg", None, minute=1)
    assert found(store) == [("orphan-record", f"records/{LOOK}/a.jpg.json")]


def test_a_record_that_is_older_than_its_row(store: Store) -> None:
    path = f"records/{LOOK}/a.jpg.json"
    before = store.read(path)
    index_rows(store, "r2", commit_row(store, "a.jpg", b"a.jpg", minute=1))
    store.write(path, before)
    assert problems(store) == [Problem("record-differs", path, "a.jpg", "older than its row")]


def test_a_failure_to_write_beside_an_older_record(store: Store) -> None:
    row = commit_row(store, "b.jpg", b"b", minute=1)
    index_rows(store, "r2", row)
    failed = {"status": rows.FAILED, "error_code": "storage", "image": None, "sha256": None, "bytes": None}
    index_rows(store, "r3", row | failed | {"finished_at": EPOCH + datetime.timedelta(minutes=2)})
    assert problems(store) == []


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        take_stock(Store(str(tmp_path)))
    assert error.value.code == "no-index"
