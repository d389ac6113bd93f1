"""`supir status`: what an operator reads, and what scripts do."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from jobs.cli import app
from tests.pipeline.test_progress import begin, written


def status(*words: object) -> str:
    result = CliRunner().invoke(app, ["status", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1", submission="supir-out-1", done_before=7, failed_before=0)
    written(store, "run-1", skipped=10)
    lines = status(tmp_path / "out", "--gpu-hour-price", 1.5).splitlines()
    assert lines[0].startswith("run run-1, preset demo-") and ": running, heard of " in lines[0]
    assert lines[1:] == [
        "  job     supir-out-1",
        "  photos  18 done, 2 failed, 10 skipped, 70 left; before this run 7 done, 0 failed",
        "  speed   1.5 MP/s, about 2.3 min left",
        "  GPUs    1.5 busy of 2",
        "  cost    2.00 GPU hours, 3.00 at 1.5 an hour",
        "  stages  seconds per photo: networks 3, waiting for networks 1.67, commit 0.333, fetch 0.0667",
    ]


def test_for_scripts_and_over_several_runs(tmp_path: Path) -> None:
    store = begin(tmp_path, "run-1")
    written(store, "run-1", state="interrupted")
    begin(tmp_path, "run-2")
    written(store, "run-2", restored=100, failed=0, state="finished")
    facts = json.loads(status(tmp_path / "out", "--gpu-hour-price", 1.5, "--json"))
    assert (facts["gpu_hours"], facts["cost"]) == (4.0, 6.0)
    (run,) = facts["runs"]
    assert (run["run"], run["state"], run["left"], run["skipped"], run["eta_s"]) == ("run-2", "finished", 0, 0, None)
    assert "all 2 runs of this output: 4.00 GPU hours\n" in status(tmp_path / "out")


def test_an_output_without_runs(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", str(tmp_path)])
    assert result.exit_code == 2 and result.stderr.startswith("error[no-runs]")
