"""`supir index`: a table for people, JSON for scripts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from pipeline.index import IndexWriter
from pipeline.storage import Store


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output with three rows."""
    now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    common = {"preset": "demo", "preset_digest": "d" * 12, "finished_at": now, "warnings": ["first-page-only"]}
    with IndexWriter(Store(str(tmp_path)), "r1") as writer:
        for name in ("album [1]/a.jpg", "[b].jpg"):
            writer.append(
                [common | {"photo_id": name, "status": "restored", "width": 2000, "height": 1000, "bytes": 7}]
            )
        writer.append([common | {"photo_id": "c[/b].jpg", "status": "failed", "error_code": "empty"}])
    return tmp_path


def index(output: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["index", str(output), *words])


def test_the_overview_counts_by_status(output: Path) -> None:
    result = index(output)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "demo dddddddddddd restored 2 4" in lines
    assert "demo dddddddddddd failed empty 1" in lines


def test_names_are_shown_as_they_are(output: Path) -> None:
    """Brackets are no markup."""
    result = index(output, "--sql", "select photo_id from photos")
    assert result.exit_code == 0, result.exception
    for name in ("album [1]/a.jpg", "[b].jpg", "c[/b].jpg"):
        assert name in result.stdout


def test_json_is_the_rows(output: Path) -> None:
    sql = "select photo_id, finished_at, warnings, width from photos where status = 'failed'"
    (row,) = json.loads(index(output, "--json", "--sql", sql).stdout)
    assert row == {
        "photo_id": "c[/b].jpg",
        "finished_at": "2024-01-01T00:00:00+00:00",
        "warnings": ["first-page-only"],
        "width": None,
    }


def test_sums_are_numbers(output: Path) -> None:
    (row,) = json.loads(
        index(output, "--json", "--sql", "select sum(bytes) as bytes, avg(width) as w from photos").stdout
    )
    assert row == {"bytes": 14, "w": 2000}


def test_a_wrong_query_names_the_columns(output: Path) -> None:
    result = index(output, "--sql", "select nothing from photos")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[sql]: ") and "photo_id" in result.stderr and result.stdout == ""
