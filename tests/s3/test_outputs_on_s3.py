"""Commands that look at an output, on a real S3 store: what they find there is what they find in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline import index
from pipeline.compact import compact
from pipeline.ranges import BLOCK_BYTES
from pipeline.storage import Store
from tests.jobs.command import TINY, supir
from tests.pipeline.photographs import encoded, jpeg
from tests.pipeline.test_compact import check_readers, fill
from tests.pipeline.test_index import row, write
from tests.pipeline.test_verify import LOOK, commit_row, index_rows
from tests.s3.gateway import Gateway
from tests.s3.test_run_on_s3 import upload

ODD = ("a.jpg", "odd/IMG[1] 100%+.jpg", "\u00e9t\u00e9 #1.tif", "new\nline.png")


@pytest.fixture
def output(bucket: str) -> Store:
    """A prefix whose name is no help."""
    return Store(f"s3://{bucket}/out [1] 100%+")


def test_readers_are_not_disturbed_by_a_compaction(bucket: str, tmp_path: Path) -> None:
    check_readers(f"s3://{bucket}/out", tmp_path, rounds=8)


def test_merged_parts_are_plain_parquet(s3: Gateway, fs: Any, output: Store) -> None:
    fill(output)
    before = index.query(output, "select * from every_row order by photo_id, finished_at").to_pylist()
    assert compact(output).parts_after == 1
    assert index.query(output, "select * from every_row order by photo_id, finished_at").to_pylist() == before
    folder = output.uri("index").removeprefix("s3://")
    assert ds.dataset(folder, filesystem=fs, format="parquet").to_table().to_pylist() == before


def test_a_thousand_parts_and_more_are_merged(output: Store) -> None:
    """More than one page of a listing."""
    for number in range(1050):
        write(output, f"r{number:04d}", row(f"photo-{number}", number))
    done = compact(output)
    assert (done.parts_before, done.parts_after, done.rows) == (1050, 1, 1050)
    assert len(list(output.entries("index"))) == 1
    assert index.query(output, "select count(distinct photo_id) as n from photos")["n"].to_pylist() == [1050]


def test_verify(output: Store) -> None:
    index_rows(output, "r1", *(commit_row(output, name, name.encode()) for name in ODD), commit_row(output, "x", None))
    for words in ([], ["--fast"]):
        whole = supir("index", "verify", output.uri(), *words)
        assert whole.returncode == 0, whole.stdout + whole.stderr
    output.remove(f"images/{LOOK}/{ODD[1]}.png")
    output.write(f"images/{LOOK}/{ODD[2]}.png", b"short")
    output.write(f"images/{LOOK}/{ODD[3]}.png", b"New\nline.png")
    output.write(f"images/{LOOK}/nobody's.png", b"")
    output.remove(f"records/{LOOK}/{ODD[0]}.json")
    output.write("claims/claim.json", b"{}")
    damaged = supir("index", "verify", output.uri(), "--json")
    assert damaged.returncode == 3, damaged.stderr
    assert sorted((problem["what"], problem["path"]) for problem in json.loads(damaged.stdout)["problems"]) == [
        ("changed", f"images/{LOOK}/{ODD[3]}.png"),
        ("changed", f"images/{LOOK}/{ODD[2]}.png"),
        ("missing", f"images/{LOOK}/{ODD[1]}.png"),
        ("orphan-picture", f"images/{LOOK}/nobody's.png"),
        ("record-missing", f"records/{LOOK}/{ODD[0]}.json"),
    ]


def test_a_plan_reads_headers_only(s3: Gateway, fs: Any, bucket: str) -> None:
    noise = encoded(Image.effect_noise((1500, 1000), 80).convert("RGB"), "TIFF")
    assert len(noise) > 20 * BLOCK_BYTES
    upload(fs, bucket, {f"in/{n}.tif": noise for n in range(3)} | {"in/b.jpg": jpeg(2), "in/half.jpg": b"half"})
    done = supir("plan", "-i", f"s3://{bucket}/in", "-o", f"s3://{bucket}/out", *TINY, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["formats"][".tif"] == {"photos": 3, "todo": 3, "bytes": 3 * len(noise)}
    assert [(b["from"], b["photos"]) for b in facts["megapixels"] if b["photos"]] == [(0, 1), (1, 3)]
    assert [(refusal["code"], refusal["photos"]) for refusal in facts["refused"]] == [("not-an-image", 1)]
    assert not fs.exists(f"{bucket}/out")


def test_runs(output: Store) -> None:
    index_rows(output, "r1", commit_row(output, "a.jpg", b"a", run="20260102-030405-abcd", seconds=1.0))
    (run,) = json.loads(supir("runs", output.uri(), "--json").stdout)
    assert (run["run"], run["restored"], run["begun"]) == ("20260102-030405-abcd", 1, "2026-01-02T03:04:05+00:00")
