"""`supir run` with several looks and `supir reprocess`, as people and scripts use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.reprocess import notes
from pipeline import index, logs
from pipeline.reprocess import earlier
from pipeline.storage import Store
from tests.jobs.command import TINY
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.runs import settings_for


def supir(*words: object) -> Result:
    result = CliRunner().invoke(app, [*map(str, words), "--gpus-per-worker", "0"])
    logs.set_up("text")  # what logged to its stderr
    return result


def facts(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


@pytest.mark.usefixtures("cluster")
def test_a_sweep_and_a_look_of_what_it_has(tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 32, 32), "b.jpg": jpeg(2, 32, 32), "c.txt": "no photo"})
    put(tmp_path, {"ids.txt": "b.jpg\n"})
    sweep = ["run", "-i", tmp_path / "in", "-o", tmp_path / "out", *TINY, "--sweep", "pull.tau_r=0.5,off"]
    made = facts(supir(*sweep, "--keep-latents", "--json"))
    assert (made["photos"], made["todo"], made["restored"]) == (2, 4, 4)
    assert [(look["tau_r"], look["restored_total"]) for look in made["looks"]] == [(0.5, 2), ("off", 2)]
    planned = facts(supir("plan", *sweep[1:-1], "pull.tau_r=0.5,1,off", "--json"))
    assert (planned["todo"], planned["pictures"], planned["done_before"]) == (2, 2, 4)
    text = supir("plan", *sweep[1:-1], "pull.tau_r=0.5,1,off").stdout
    assert "to do     2 photos, 2 pictures; 4 done before" in text and text.count("look      demo-") == 3

    other = ["reprocess", tmp_path / "out", *TINY, "--set", "pull.tau_r=2", "--photos", tmp_path / "ids.txt"]
    shown = supir(*other, "--log-format", "json")
    assert shown.exit_code == 0 and "no latents" not in shown.stderr, shown.output
    said = [json.loads(line) for line in shown.stderr.splitlines()]
    assert len({line["run"] for line in said}) == 1 and any("restored" in line["message"] for line in said)
    assert any(line.get("done") == 1 and line.get("left") == 0 for line in said)
    assert facts(supir(*other, "--json"))["todo"] == 0
    found = index.query(Store(str(tmp_path / "out")), "select photo_id, tau_r from photos order by all").to_pylist()
    assert [(row["photo_id"], row["tau_r"]) for row in found] == [
        ("a.jpg", 0.5),
        ("a.jpg", None),
        ("b.jpg", 0.5),
        ("b.jpg", 2.0),
        ("b.jpg", None),
    ]
    runs = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path / "out"), "--json"]).stdout)
    assert runs[1]["preset"].count("demo-") == 2 and runs[0]["input"] == str(tmp_path / "out")

    store = Store(str(tmp_path / "out"))
    before = earlier(store)
    assert notes(store, settings_for(tmp_path, tmp_path / "out"), before) == []
    (said,) = notes(store, settings_for(tmp_path, tmp_path / "out", model_digest="f" * 12), before)
    assert "another model" in said and "2 photos" in said


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--sweep", "pull.tau_r"], "preset", "section.key=value,value"),
        (["--sweep", "pull.tau_r=1,,2"], "preset", "section.key=value,value"),
        (["--sweep", "pull.tau=1"], "preset", "did you mean pull.tau_r"),
        (["--preset", "faithfull"], "preset", "did you mean faithful"),
    ],
)
def test_looks_that_there_are_not(tmp_path: Path, words: list[str], code: str, says: str) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 32, 32)})
    result = supir("run", "-i", tmp_path / "in", "-o", tmp_path / "out", *words)
    assert result.exit_code == 2 and result.stderr.startswith(f"error[{code}]: ") and says in result.stderr


def test_reprocess_makes_no_captions(tmp_path: Path) -> None:
    result = supir("reprocess", tmp_path, "--set", "caption.source=none")
    assert result.exit_code == 2 and result.stderr.startswith("error[caption-setting]: ")
    result = supir("reprocess", tmp_path, "--preset", "demo")
    assert result.exit_code == 2 and result.stderr.startswith("error[no-index]: ")
    result = supir("reprocess", tmp_path, "--preset", "demo", "--log-format", "json")
    line = json.loads(result.stderr)
    assert result.exit_code == 2 and (line["level"], line["code"]) == ("error", "no-index") and line["hint"]
