"""`supir index` and `supir runs`: tables for people, JSON for scripts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from pipeline.index import IndexWriter
from pipeline.storage import Store
from tests.jobs.command import supir
from tests.pipeline.photographs import put
from tests.pipeline.runs import settings_for
from tests.pipeline.test_verify import LOOK, commit_row, index_rows


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


def test_query_is_what_it_does_by_default(output: Path) -> None:
    plain = index(output, "--json").stdout
    assert plain == invoke("index", "query", output, "--json").stdout == invoke("index", "--json", output).stdout


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_a_folder_that_is_named_like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_rows(Store(str(tmp_path / "compact")), "r1", commit_row(Store(str(tmp_path / "compact")), "a.jpg", b"a"))
    monkeypatch.chdir(tmp_path)
    assert json.loads(invoke("index", "./compact", "--json").stdout)[0]["photos"] == 1


def test_compact(output: Path) -> None:
    index_rows(Store(str(output)), "r2", commit_row(Store(str(output)), "d.jpg", b"d"))
    done = supir("index", "compact", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 parts are now 1: 4 rows, ")
    assert len(list((output / "index").iterdir())) == 1
    facts = json.loads(invoke("index", "compact", output, "--json").stdout)
    assert (facts["parts_before"], facts["parts_after"], facts["rows"]) == (1, 1, 4)
    assert len(json.loads(index(output, "--json", "--sql", "select * from photos").stdout)) == 4


def test_verify(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out [1]"))
    index_rows(store, "r1", *(commit_row(store, name, name.encode()) for name in ("a.jpg", "b\n.jpg")))
    whole = supir("index", "verify", store.uri())
    assert whole.returncode == 0, whole.stderr
    assert "2 rows, 2 pictures, 4 objects" in whole.stdout and "all is as the index says" in whole.stdout

    put(tmp_path / "out [1]" / "images" / LOOK, {"a.jpg.png": "A.jpg", "b\n.jpg.png": "longer!"})
    damaged = supir("index", "verify", store.uri())
    assert damaged.returncode == 3 and damaged.stderr == ""
    *lines, summary = damaged.stdout.splitlines()
    assert sorted(lines) == [
        f"changed            images/{LOOK}/a.jpg.png  a.jpg  another sha256",
        f"changed            images/{LOOK}/b\\n.jpg.png  b\\n.jpg  7 bytes instead of 6",
    ]
    assert summary.endswith(" s: 2 changed")


def test_verify_names_the_photos_to_restore_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    index_rows(store, "r1", *(commit_row(store, name, b"x") for name in ("a.jpg", "b.jpg", "c.jpg")))
    store.write(f"images/{LOOK}/b.jpg.png", b"changed")
    store.remove(f"images/{LOOK}/c.jpg.png")
    store.remove(f"records/{LOOK}/c.jpg.json")
    store.write(f"images/{LOOK}/d.jpg.png", b"nobody's")
    result = invoke("index", "verify", tmp_path, "--ids")
    assert result.exit_code == 3
    assert result.stdout.splitlines() == ["b.jpg", "c.jpg"]
    assert "3 rows" in result.stderr
    assert invoke("index", "verify", tmp_path, "--ids", "--json").exit_code == 2


def test_verify_as_json(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    index_rows(store, "r1", commit_row(store, "a.jpg", b"a"))
    nothing = json.loads(invoke("index", "verify", tmp_path, "--json").stdout)
    assert (nothing["problems"], nothing["counts"], nothing["pictures"]) == ([], {}, 1)
    for name in ("b.jpg", "c.jpg"):
        store.write(f"images/{LOOK}/{name}.png", b"nobody's")
    result = invoke("index", "verify", tmp_path, "--fast", "--json")
    assert result.exit_code == 3
    facts = json.loads(result.stdout)
    assert [problem["path"] for problem in facts["problems"]] == [f"images/{LOOK}/{n}.jpg.png" for n in "bc"]
    assert facts["counts"] == {"orphan-picture": 2} and facts["fast"] is True


def test_runs(tmp_path: Path) -> None:
    """Two runs that left settings, one of which made rows, and rows of a run of which nothing else is known."""
    store = Store(str(tmp_path / "out"))
    asked = settings_for("in", tmp_path / "out", run="20260102-030405-abcd")
    asked.save(store, photos=9, todo=3)
    settings_for("in", tmp_path / "out", run="20260103-000000-abcd").save(store, photos=9, todo=0)
    store.write("runs/leases/x.json", b"{}")
    store.write("runs/20250101-000000-0000/run.json", b"cut off")
    made = {"run": "20260102-030405-abcd", "seconds": 2.5, "width": 2000, "height": 1000}
    done = [commit_row(store, name, b"x", **made) for name in ("a.jpg", "b.jpg")]
    index_rows(store, "r1", *done, commit_row(store, "c.jpg", None, run=made["run"]))
    index_rows(store, "r2", commit_row(store, "a.jpg", b"y", minute=1, run="by-hand", model="m"))

    by_hand, none, some, cut = json.loads(invoke("runs", tmp_path / "out", "--json").stdout)
    assert (by_hand["run"], by_hand["restored"], by_hand["model"]) == ("by-hand", 1, "m")
    assert (none["run"], none["todo"], none["restored"], none["last_row"]) == ("20260103-000000-abcd", 0, 0, None)
    assert (cut["run"], cut["model"]) == ("20250101-000000-0000", None)
    assert {name: some[name] for name in ("begun", "restored", "failed", "photo_seconds", "megapixels", "todo")} == {
        "begun": "2026-01-02T03:04:05+00:00",
        "restored": 2,
        "failed": 1,
        "photo_seconds": 5.0,
        "megapixels": 4.0,
        "todo": 3,
    }
    assert some["preset"] == asked.preset.folder and some["input"] == "in"
    assert some["last_row"] == "2024-01-01T00:00:00+00:00"

    table = supir("runs", tmp_path / "out")
    assert table.returncode == 0, table.stderr
    assert "20260102-030405-abcd  2026-01-02 03:04:05" in table.stdout


def test_runs_of_nothing(tmp_path: Path) -> None:
    result = invoke("runs", tmp_path)
    assert result.exit_code == 2 and result.stderr.startswith("error[no-index]")


def test_compact_and_verify_of_nothing(tmp_path: Path) -> None:
    for command in ("compact", "verify"):
        result = invoke("index", command, tmp_path)
        assert result.exit_code == 2 and result.stderr.startswith("error[no-index]") and result.stdout == ""
