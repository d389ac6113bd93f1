"""`supir bench index`: what planning a resumed run, and compacting its index, takes when an archive is large."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline import rows
from pipeline.captions.captioning import Captioning
from pipeline.compact import compact
from pipeline.database import TableFile, database
from pipeline.manifest import Manifest
from pipeline.plan import make_plan
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.presets import load_preset

DONE_SHARE = 0.9  # of the photos, in the index; every hundredth of them failed, half of those in passing
PARTS = 100

_MANIFEST = """
    copy (select {photo} as photo_id, 's3://archive/' || photo_id as uri, photo_id as path, md5(i::varchar) as
                 source_version, 1000000 + i as source_bytes, null::varchar as caption, '' as sidecar,
                 null::varchar as prompt, null::varchar as preset, null::varchar as edited,
                 null::varchar[] as looks
          from range({rows}) numbers(i)) to '{file}' (format parquet, compression zstd, row_group_size 100000)
"""
_INDEX = """
    copy (select {photo} as photo_id, case when i % 100 = 0 then 'failed' else 'restored' end as status,
                 case when i % 200 = 0 then 'storage' when i % 100 = 0 then 'truncated' end as error_code,
                 '{look}' as preset_digest, 'bench' as model_digest, 'png' as format,
                 md5(i::varchar) as source_version, sha256(i::varchar) as sha256,
                 timestamptz '2026-01-01 00:00:00+00' + to_microseconds(i) as finished_at
          from range({first}, {last}) numbers(i)) to '{file}' (format parquet, compression zstd)
"""
_PHOTO = "'collection/' || (i // 1000)::varchar || '/scan-' || lpad(i::varchar, 9, '0') || '.tif'"


def index(count: int, as_json: bool) -> None:
    """Make a manifest and an index of so many photos, and say what planning a run over them and compacting take."""
    with Console(stderr=True).status("making the rows"), tempfile.TemporaryDirectory(prefix="supir-") as folder:
        _make(Path(folder), count)
        facts = {"rows": count, **_in_a_process("plan", folder), **_in_a_process("merge", folder)}
    facts["date"] = time.strftime("%Y-%m-%d")
    if not as_json:
        for name, value in facts.items():
            sys.stdout.write(f"{name:23} {value}\n")
    sys.stdout.write(json.dumps(facts) + "\n")


def _make(folder: Path, count: int) -> None:
    (folder / "index").mkdir()
    done = int(count * DONE_SHARE)
    with database() as connection:
        connection.execute(_MANIFEST.format(photo=_PHOTO, rows=count, file=folder / "manifest.parquet"))
        for part in range(PARTS):
            first, last = done * part // PARTS, done * (part + 1) // PARTS
            file, look = folder / "index" / f"bench-{part:06d}.parquet", load_preset("demo").digest
            connection.execute(_INDEX.format(photo=_PHOTO, look=look, first=first, last=last, file=file))


def _in_a_process(function: str, folder: str) -> dict[str, Any]:
    """What a function below prints, in a process of its own: memory is counted from the start."""
    command = [sys.executable, "-c", f"from jobs.bench_index import {function}; {function}()", folder]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def merge() -> None:
    """In the process of its own: compact the index of the folder in `sys.argv`, and print what it took."""
    start = time.monotonic()
    done = compact(Store(sys.argv[1]))
    facts = {
        "parts_before": done.parts_before,
        "parts_after": done.parts_after,
        "compact_seconds": round(time.monotonic() - start, 1),
        "compact_peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    sys.stdout.write(json.dumps(facts))


def plan() -> None:
    """In the process of its own: plan over the folder in `sys.argv`, and print what it took."""
    folder = Path(sys.argv[1])
    settings = RunSettings(
        run="bench", input="", output=str(folder), presets=(load_preset("demo"),), captioning=Captioning(), model="",
        model_digest="bench", format="png", quality=None, accept_damaged=False, restore_all=False,
        skip_if_sharper_than=None, limit=None, only=None, shard=None, retry_failed=False,
        retry_captions=False, redo=False, latents="none", max_megapixels=1, photo_timeout_s=None, address=None,
        workers=None, gpus_per_worker=None, photos_per_batch=1,
        tile_batch=1, device=None, dtype=None, compiled=False, allow_download=False, allow_uris=(), log_format="text",
    )  # fmt: skip
    start = time.monotonic()
    planned = make_plan(Manifest(TableFile(rows.MANIFEST, folder / "manifest.parquet"), {}, {}), settings)
    facts = {
        "todo": planned.todo.num_rows,
        "done_before": planned.done_before,
        "failed_before": planned.failed_before,
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    sys.stdout.write(json.dumps(facts))
