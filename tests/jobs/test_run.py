"""`supir run` as people and scripts use it: the demo networks at their smallest, in a Ray of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.jobs.command import PROGRAM, REPOSITORY, TINY, supir
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.runs import raw_rows, view

PHOTOS = {"a.jpg": jpeg(1, 32, 32), "sub [x]/b.jpg": jpeg(2, 32, 40), "empty [x].jpg": b"", "notes.md": b""}


def test_twice(tmp_path: Path) -> None:
    put(tmp_path / "in", PHOTOS)
    words = ["run", "-i", tmp_path / "in", "-o", tmp_path / "out [x]", *TINY, "--progress", "plain"]

    first = supir(*words)
    assert first.returncode == 3, first.stderr
    assert "Traceback" not in first.stderr
    assert "only ever seen drawn pictures" in first.stderr
    assert "photos to restore: 3" in first.stderr
    assert "2 done, 1 failed, 0 left" in first.stderr
    assert "empty: 1, such as empty [x].jpg" in first.stderr
    assert "1 .md" in first.stderr
    assert f"pictures: {tmp_path}/out [x]/images/demo-" in first.stderr
    found = view(tmp_path / "out [x]")
    assert {key: row["error_code"] for key, row in found.items()} == {
        "a.jpg": None,
        "sub [x]/b.jpg": None,
        "empty [x].jpg": "empty",
    }

    second = supir(*words, "--json")
    assert second.returncode == 3, "what failed is still failed"
    (line,) = second.stdout.splitlines()
    facts = json.loads(line)
    assert (facts["todo"], facts["restored_before"], facts["failed_before"]) == (0, 2, 1)
    assert len(raw_rows(tmp_path / "out [x]")) == 3

    third = supir(*words)
    assert third.returncode == 3
    assert "nothing to do: 2 photos are restored, 1 failed in an earlier run" in third.stderr
    assert len(list((tmp_path / "out [x]" / "runs").glob("*/run.json"))) == 1

    shutil.rmtree(tmp_path / "out [x]" / "index")
    from_records = supir(*words, "--json")
    assert from_records.returncode == 3
    facts = json.loads(from_records.stdout)
    assert (facts["todo"], facts["restored"], facts["failed"], facts["reasons"]) == (3, 2, 1, {"empty": 1})


@pytest.mark.usefixtures("cluster")
def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 32, 32), "copy.jpg": jpeg(1, 32, 32)})
    words = ["run", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *TINY, "--json"]
    result = CliRunner().invoke(app, [*words, "--gpus-per-worker", "0"])
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    facts = json.loads(line)
    assert {
        key: facts[key]
        for key in ("photos", "todo", "restored", "failed", "left", "duplicates_total", "reasons", "ignored")
    } == {
        "photos": 2,
        "todo": 2,
        "restored": 2,
        "left": 0,
        "duplicates_total": 1,
        "failed": 0,
        "reasons": {},
        "ignored": {},
    }
    assert facts["megapixels_total"] == pytest.approx(64 * 64 / 1e6)
    assert (tmp_path / "out" / "runs" / facts["run"] / "run.json").is_file()


def test_a_ray_that_does_not_start(tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 32, 32)})
    too_long = tmp_path / ("x" * 100)  # for its sockets
    result = supir("run", "-i", tmp_path / "in", "-o", tmp_path / "out", *TINY, RAY_TMPDIR=str(too_long))
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "\nerror[cluster]: Ray did not start: " in result.stderr and "\nhint: " in result.stderr


def test_a_shard_that_there_is_not(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "-i", str(tmp_path), "-o", str(tmp_path / "out"), "--shard", "3/2"])
    assert result.exit_code == 2 and result.stderr.startswith("error[shard]: there is no shard 3/2\nhint: ")


def test_an_interrupted_run_can_go_on(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n, 32, 32) for n in range(40)})
    words = ["run", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *TINY, "--set", "sampling.num_steps=12"]
    # A shell starts background jobs with SIGINT ignored, which children inherit; a handler is reset for them instead.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    run = subprocess.Popen(
        [*PROGRAM, *words, "--photos-per-batch", "1", "--progress", "none"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    end = time.monotonic() + 600
    while not list((tmp_path / "out").glob("records/*/*.json")):
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=600)
    assert run.returncode == 130, said
    assert "photos have been begun and are being finished" in said
    assert "photos are left; the same command goes on from here" in said
    assert "Traceback" not in said
    kept = {path: path.read_bytes() for path in (tmp_path / "out" / "records").rglob("*.json")}
    assert 0 < len(kept) < 40

    again = supir(*words, "--limit", len(kept) + 1, "--json")
    assert again.returncode == 0, again.stderr
    assert all(path.read_bytes() == record for path, record in kept.items()), "what was finished is kept"
    assert len(view(tmp_path / "out")) == len(raw_rows(tmp_path / "out")) >= len(kept) + 1
