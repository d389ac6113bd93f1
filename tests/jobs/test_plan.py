"""`supir plan`: what a run would do, before anything is spent; nothing is written."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from jobs import cli
from pipeline.index import IndexWriter
from pipeline.storage import Store
from tests.jobs.command import REPOSITORY, TINY, supir
from tests.jobs.test_help import WATCH
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.runs import settings_for
from tests.pipeline.test_estimate import index as index_row
from tests.pipeline.test_index import EPOCH

PHOTOS = {
    **{f"scans/{n}.jpg": jpeg(n, 64, 128) for n in range(6)},
    "page.jpg": "<html>",
    "phone.jxl": "x",
    "camera.nef": "x",
    "notes.md": "",
}


@pytest.fixture
def words(tmp_path: Path) -> list[Any]:
    put(tmp_path / "in", PHOTOS)
    return ["-i", tmp_path / "in", "-o", tmp_path / "out", *TINY]


def plan(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["plan", *map(str, words)])


def facts(*words: object) -> dict[str, Any]:
    result = plan(*words, "--json")
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_it_takes_what_a_run_takes() -> None:
    """So that one word changes the one command into the other."""
    ours, theirs = (set(inspect.signature(command).parameters) for command in (cli.plan, cli.run))
    assert theirs - ours == {"progress"}
    assert ours - theirs == {"sample", "megapixels_per_second"}


def test_before_the_first_run(words: list[Any], tmp_path: Path) -> None:
    done = supir("plan", *words)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "9 photos; ignored: 1 .md" in text
    assert "to do 9; 0 done before" in text
    assert re.search(r"\.jpg 7 7 \d+\.\d kB", text), "small files are no 0.0 MB"
    assert "refused 1, raw-photo: a camera's raw file" in text
    assert "refused 1, unsupported-format: .jxl files are not read yet; convert it to TIFF or PNG; such as" in text
    assert "refused 1, not-an-image: not an image in a known format; such as page.jpg" in text
    assert "from the headers of 7 of 7 photos: all of them" in text
    assert "0 to 0.5 MP 100.0% ####" in text
    assert "time unknown" in text and "--limit 20" in text
    assert not (tmp_path / "out").exists()


def test_as_json_after_a_run(words: list[Any], tmp_path: Path) -> None:
    setting = settings_for(tmp_path / "in", tmp_path / "out")
    versions = {entry.path: entry.version for entry in Store(setting.input).entries()}
    for name, code in (("scans/0.jpg", None), ("page.jpg", "not-an-image")):
        values: dict[str, Any] = {"photo_id": name, "source_version": versions[name], "format": "png"}
        if code:
            values |= {"status": "failed", "error_code": code}
        index_row(setting, "worker", 0, 10, **values)
    before = sorted((tmp_path / "out").rglob("*"))
    found = facts(*words, "--workers", 4, "--gpus-per-worker", 0.5)
    assert sorted((tmp_path / "out").rglob("*")) == before, "nothing is written"
    assert {name: found[name] for name in ("photos", "done_before", "failed_before", "todo", "ignored")} == {
        "photos": 9,
        "done_before": 1,
        "failed_before": 1,
        "todo": 7,
        "ignored": {".md": 1},
    }
    assert found["formats"][".jpg"]["photos"] == 7 and found["formats"][".jpg"]["todo"] == 5
    assert found["sample"] == {"photos": 5, "of": 5}
    assert {(refusal["code"], refusal["photos"]) for refusal in found["refused"]} == {
        ("raw-photo", 1),
        ("unsupported-format", 1),
    }
    megapixels = 5 * 128 * 256 / 1e6  # the demo preset doubles
    rate = 1280 * 2560 / 1e6 / 10
    assert found["network_megapixels"] == pytest.approx(megapixels, abs=1e-3) and found["margin"] == 0
    assert found["worker_hours"] == pytest.approx(megapixels / rate / 3600)
    assert found["gpu_hours"] == pytest.approx(found["worker_hours"] / 2)
    assert found["hours"] == pytest.approx(found["worker_hours"] / 4)
    assert found["rate"] == {"megapixels_per_s": pytest.approx(rate), "photos": 1, "same_look": True}
    assert facts(*words, "--retry-failed")["todo"] == 8 and facts(*words, "--redo")["todo"] == 9


def test_a_sample_says_that_it_is_one(words: list[Any]) -> None:
    result = plan(*words, "--sample", 3, "--megapixels-per-second", 0.01)
    assert "from the headers of 3 of 7 photos: 42.9% of them, at random" in result.stdout
    assert "at 0.01 megapixels/s, as given" in result.stdout
    assert facts(*words, "--sample", "all")["sample"] == {"photos": 7, "of": 7}


@pytest.mark.parametrize("sample", ["0", "-3", "some", "1.5"])
def test_a_sample_that_is_none(words: list[Any], sample: str) -> None:
    result = plan(*words, f"--sample={sample}")
    assert result.exit_code == 2 and result.stderr.startswith("error[input]: --sample")


def test_what_ends_a_run_ends_its_plan(words: list[Any], tmp_path: Path) -> None:
    setting = settings_for(tmp_path / "in", tmp_path / "out", model_digest="another")
    index_row(setting, "worker", 0, 10, format="png")
    result = plan(*words)
    assert result.exit_code == 2 and result.stderr.startswith("error[other-model]")
    assert plan("-i", tmp_path / "nowhere", "-o", tmp_path / "out").exit_code == 2
    fresh = ["-i", tmp_path / "in", "-o", tmp_path / "fresh", "--set"]
    assert "error[weights-not-found]" in plan(*fresh, "caption.model=someone/llava").stderr
    assert "error[captioner-unsupported]" in plan(*fresh, f"caption.model={tmp_path}").stderr
    server = ["caption.endpoint=http://127.0.0.1:9/v1", "--set", "caption.endpoint_model=m"]
    assert plan(*fresh, *server).exit_code == 0
    assert "error[caption-endpoint]" in plan(*fresh, *server, "--set", "caption.endpoint_key=NO_KEY").stderr


def test_nothing_left(words: list[Any], tmp_path: Path) -> None:
    setting = settings_for(tmp_path / "in", tmp_path / "out")
    done = [
        {"photo_id": entry.path, "source_version": entry.version, "status": "restored", "format": "png",
         "preset_digest": setting.preset.digest, "model_digest": setting.model_digest, "finished_at": EPOCH}
        for entry in Store(setting.input).entries()
    ]  # fmt: skip
    with IndexWriter(Store(setting.output), "r1") as writer:
        writer.append(done)
    result = plan(*words)
    assert result.exit_code == 0 and "to do     0; 9 done before" in result.stdout
    assert facts(*words)["network_megapixels"] == 0


def test_it_loads_neither_torch_nor_ray(words: list[Any]) -> None:
    command = [sys.executable, "-c", WATCH, "plan", *map(str, words)]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert {"torch", "ray"} & set(process.stderr.split()) == set()


def test_photos_that_are_listed_for_another_preset_are_left_out_and_counted(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": jpeg(1), "b.jpg": jpeg(2), "c.jpg": jpeg(3)})
    put(tmp_path, {"list.csv": "uri,preset\na.jpg,demo\nb.jpg,paper\nc.jpg,\n"})
    words = ["-i", tmp_path / "list.csv", "-o", tmp_path / "out", *TINY]
    facts = json.loads(plan(*words, "--json").stdout)
    assert (facts["photos"], facts["todo"], facts["other_presets"]) == (2, 2, {"paper": 1})
    assert "for other presets, which this run leaves out: paper (1)" in plan(*words).stdout
