"""A record is the proof that a photo is done."""

from __future__ import annotations

import datetime
import hashlib
import json
from pathlib import Path

import pytest

from pipeline import commit, rows
from pipeline.storage import Store
from supir_core.errors import PhotoError, StorageError

LOOK = "demo-0123456789ab"
FINISHED = datetime.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=datetime.UTC)


def row(**values: object) -> rows.Row:
    return {
        "photo_id": "a/b.jpg",
        "status": rows.RESTORED,
        "format": "jpeg",
        "source_version": "v1",
        "model_digest": "0" * 12,
        "warnings": ["first-page-only"],
        "caption": "größe",
        "finished_at": FINISHED,
        **values,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_paths_keep_the_photos_path_and_extension() -> None:
    assert commit.image_path(LOOK, "a/b.jpg", "jpeg") == f"images/{LOOK}/a/b.jpg.jpg"
    assert commit.image_path(LOOK, "a/b.jpg", "tiff") == f"images/{LOOK}/a/b.jpg.tif"
    assert commit.record_path(LOOK, "a/b.jpg") == f"records/{LOOK}/a/b.jpg.json"


def test_picture_and_record(store: Store) -> None:
    done = row()
    commit.commit(store, LOOK, "a/b.jpg", done, b"picture")
    assert store.read(done["image"]) == b"picture"
    assert (done["bytes"], done["sha256"]) == (7, hashlib.sha256(b"picture").hexdigest())
    record = json.loads(store.read(commit.record_path(LOOK, "a/b.jpg")))
    assert list(record) == rows.INDEX.names
    assert record["caption"] == "größe"


def test_what_is_found_is_the_row_that_was_committed(store: Store) -> None:
    done = row()
    commit.commit(store, LOOK, "a/b.jpg", done, b"picture")
    found = commit.find(store, LOOK, "a/b.jpg", "a/b.jpg")
    assert found is not None
    assert rows.table([found], rows.INDEX) == rows.table([done], rows.INDEX)


def test_failures_have_records_and_no_picture(store: Store) -> None:
    commit.commit(store, LOOK, "a/b.jpg", row(status=rows.FAILED, error_code="empty"), None)
    found = commit.find(store, LOOK, "a/b.jpg", "a/b.jpg")
    assert found is not None and (found["error_code"], found["image"]) == ("empty", None)
    assert not store.exists("images")


def test_another_look_or_photo_is_not_done(store: Store) -> None:
    commit.commit(store, LOOK, "a/b.jpg", row(), b"picture")
    assert commit.find(store, "demo-ba9876543210", "a/b.jpg", "a/b.jpg") is None
    assert commit.find(store, LOOK, "a/c.jpg", "a/b.jpg") is None


def test_the_place_of_another_photo_is_not_taken(store: Store) -> None:
    commit.commit(store, LOOK, "a/b.jpg", row(), b"picture")
    with pytest.raises(PhotoError, match=r"'a/b\.jpg' lies where") as error:
        commit.find(store, LOOK, "a/b.jpg", "another")
    assert error.value.code == "output-taken"


def test_a_commit_can_be_repeated(store: Store) -> None:
    for _ in range(2):
        commit.commit(store, LOOK, "a/b.jpg", row(), b"picture")
    assert len(list(store.entries())) == 2


def test_without_its_record_a_picture_proves_nothing(store: Store) -> None:
    commit.commit(store, LOOK, "a/b.jpg", row(), b"picture")
    (Path(store.uri()) / commit.record_path(LOOK, "a/b.jpg")).unlink()
    assert commit.find(store, LOOK, "a/b.jpg", "a/b.jpg") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"finished_at": "yesterday"}', b"\xff\xfe"])
def test_a_damaged_record_is_a_clear_error(store: Store, content: bytes) -> None:
    store.write(commit.record_path(LOOK, "a/b.jpg"), content)
    with pytest.raises(StorageError, match="is not a record") as error:
        commit.find(store, LOOK, "a/b.jpg", "a/b.jpg")
    assert "delete it" in error.value.hint
