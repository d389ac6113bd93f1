"""`supir manifest build`: one list of several places, which a run takes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from pipeline import rows
from pipeline.manifest import read_manifest
from tests.pipeline.photographs import jpeg, put


@pytest.fixture
def places(tmp_path: Path) -> Path:
    put(tmp_path / "1910", {"a.jpg": jpeg(1), "a.txt": "a street", "notes.md": "no photo"})
    put(tmp_path / "1920", {"a.jpg": jpeg(2), "deep/b.jpg": jpeg(3)})
    return tmp_path


def build(*words: object) -> Result:
    return CliRunner().invoke(app, ["manifest", "build", *map(str, words)])


def test_photos_of_several_places_stand_in_one_list_by_their_uris(places: Path) -> None:
    done = build(places / "1910", places / "1920", "-o", places / "list.parquet", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert (facts["photos"], facts["ignored"]) == (3, {".md": 1})
    table = pq.read_table(places / "list.parquet")
    assert table.schema.names == rows.MANIFEST.names
    uris = [str(places / name) for name in ("1910/a.jpg", "1920/a.jpg", "1920/deep/b.jpg")]
    assert table["photo_id"].to_pylist() == table["uri"].to_pylist() == uris


def test_a_run_takes_from_it_what_the_listing_knew(places: Path) -> None:
    build(places / "1910", places / "1920", "-o", places / "list.parquet")
    written = pq.read_table(places / "list.parquet").to_pylist()
    taken = read_manifest(str(places / "list.parquet")).photos.read().to_pylist()
    assert taken == written
    assert taken[0]["sidecar"] == str(places / "1910/a.txt") and taken[1]["sidecar"] == ""
    assert all(photo["source_version"] and photo["source_bytes"] for photo in taken)


def test_a_photo_that_is_given_twice_is_in_it_once(places: Path) -> None:
    build(places / "1910", places / "1910", places / "1910/a.jpg", "-o", places / "list.parquet")
    assert pq.read_table(places / "list.parquet").num_rows == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["1910", "-o", "list.csv"], "input"),
        (["nowhere", "-o", "list.parquet"], "not-found"),
        (["1910/notes.md", "-o", "list.parquet"], "no-photos"),
    ],
)
def test_what_cannot_be_listed(words: list[str], code: str, places: Path) -> None:
    done = build(*(word if word.startswith("-") else places / word for word in words))
    assert done.exit_code == 2 and f"error[{code}]" in done.stderr
    assert not (places / "list.parquet").exists()
