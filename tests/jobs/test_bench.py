"""`supir bench`: measurements are there and make sense; how large they are is the machine's matter."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.bench_flow import measured
from pipeline.index import IndexWriter
from pipeline.storage import Store
from tests.jobs.command import supir


def test_core_measures_every_part_and_prints_one_object_last() -> None:
    small = ("--threads", 1, "--tile", 8, "--vae-side", 64, "--repeats", 1, "--batch", 1, "--batch", 2)
    done = supir("bench", "core", *small)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert [step["batch"] for step in facts["steps"]] == [1, 2]
    for step in facts["steps"]:
        assert step["seconds"] == pytest.approx(step["batch"] * step["seconds_per_window"])
        assert step["share"] == pytest.approx(step["tflops_per_s"] / facts["matmul_tflops_per_s"])
        assert 0 < step["share"] < 2
    assert facts["sampling"]["ratio"] == pytest.approx(facts["sampling"]["ours_s"] / facts["sampling"]["plain_loop_s"])
    assert facts["vae"]["encode_s"] > 0 and facts["vae"]["decode_s"] > 0
    assert (facts["dims"], facts["dtype"], facts["compiled"]) == ("demo", "float32", False)


@pytest.mark.parametrize("words", [("--tile", 10), ("--vae-side", 102), ("--device", "abacus")])
def test_what_the_networks_do_not_take_is_refused(words: tuple[object, ...]) -> None:
    done = supir("bench", "core", *words)
    assert done.returncode == 2
    assert "error[" in done.stderr and "Traceback" not in done.stderr


def test_tiling_keeps_what_the_planner_promises() -> None:
    done = supir("bench", "tiling", "--size", "1024x1024", "--size", "2048x2048", "--size", "3000x2000", "--json")
    assert done.returncode == 0, done.stderr
    one, four, odd = json.loads(done.stdout)["sizes"]
    assert one["planned"] == one["published"] == {"windows": 1, "height": 128, "width": 128, "share": 1.0}
    assert four["published"]["share"] == pytest.approx(1.68, abs=0.01) and four["planned"]["share"] <= 1.25
    assert (odd["height_lat"], odd["width_lat"]) == (math.ceil(2000 / 64 - 0.5) * 8, round(3000 / 64) * 8)


@pytest.mark.parametrize("size", ["large", "0x0", "-5x20", "3000"])
def test_a_size_that_is_none_is_refused(size: str) -> None:
    done = supir("bench", "tiling", f"--size={size}")
    assert done.returncode == 2 and f"{size!r} is not a size" in done.stderr


def test_index_plans_over_made_up_archives() -> None:
    """Nine tenths are in the index; of every 200 of them two have failed, one in passing."""
    done = supir("bench", "index", "--rows", 2000)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert (facts["todo"], facts["done_before"], facts["failed_before"]) == (200 + 9, 1782, 9)
    assert facts["peak_memory_mb"] > 0
    assert (facts["parts_before"], facts["parts_after"]) == (100, 1) and facts["compact_peak_memory_mb"] > 0


def test_flow_with_pretended_gpus() -> None:
    done = supir("bench", "flow", "--photos", 8, "--gpus", 2, "--seconds", 0.1, "--drivers", 2)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    facts = json.loads(last)
    assert len(table) == 3 and facts["drivers"] == 2
    (found,) = facts["runs"]
    assert found["gpus"] == 2 and found["rows"] == 8
    assert 0 < found["efficiency"] < found["efficiency_without_start"] <= 1


def test_flow_takes_its_times_from_an_index(tmp_path: Path) -> None:
    ends = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds) for seconds in (0, 2, 10)]
    with IndexWriter(Store(str(tmp_path)), "run") as writer:
        done = {"status": "restored", "preset_digest": "0", "worker": "host:1", "run": "run"}
        writer.append({**done, "photo_id": str(n), "finished_at": end} for n, end in enumerate(ends))
    found = measured(str(tmp_path))
    assert found.median_s == pytest.approx(4.0) and found.spread == pytest.approx(math.log(4) / math.sqrt(2))
