"""`supir bench flow`: what the flow makes of many GPUs, which are pretended: a timed wait in place of the networks.

Everything else is real: Ray, its tasks and actors, the store, records, pictures and the index. So what a GPU waits for
here, it would wait for there.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console

from pipeline import flow, index
from pipeline.captions.captioning import Captioning
from pipeline.manifest import read_manifest
from pipeline.plan import make_plan
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import InputError
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restored
from supir_core.speed import resident_bytes

SIDE_PX = 64
FOLDER_PHOTOS = 1000  # in one folder

_TIMES = """
    with paced as (
        select epoch(finished_at - lag(finished_at) over (partition by worker, run order by finished_at)) as seconds
        from photos where status = 'restored' and duplicate_of is null)
    select count(*) as photos, exp(avg(ln(seconds))) as median_s, coalesce(stddev_samp(ln(seconds)), 0) as spread
    from paced where seconds > 0
"""


@dataclass(frozen=True)
class Wait:
    """Loads restorers that wait: a log-normal time for each photo, which only its content decides."""

    median_s: float
    spread: float  # standard deviation of the logarithm

    def __call__(self, settings: RunSettings) -> Wait:
        """As `load_restorer` is called."""
        return self

    def seconds(self, key: str) -> float:
        """For the photo of this content."""
        return self.median_s * random.Random(key).lognormvariate(0.0, self.spread)

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        """Grey pictures, late."""
        time.sleep(sum(self.seconds(photo.key) for photo in photos))
        return [Restored(torch.zeros(1, 3, SIDE_PX, SIDE_PX), []) for _ in photos]


def measured(output: str) -> Wait:
    """The times of an index: from one finished photo of a worker to its next.

    Raises:
        InputError: there are none.
    """
    found = index.query(Store(output), _TIMES).to_pylist()[0]
    if not found["photos"]:
        raise InputError(f"no worker of {output} has restored two photos", hint="--seconds and --spread")
    return Wait(found["median_s"], found["spread"])


def bench(photos: int, gpus: Sequence[int], wait: Wait, drivers: int, as_json: bool) -> None:
    """Run the flow with each number of GPUs; a table as it comes, and one JSON object last."""
    if not as_json:
        _say(f"{photos} photos, each {wait.median_s:g} s (median; spread {wait.spread:g}), drivers: {drivers}")
        _say(" GPUs  busy/paid  without start  rows/s    start s     tail s  longest s   driver MB at rows")
    results = []
    for count in gpus:
        with Console(stderr=True).status(f"{count} GPUs"), tempfile.TemporaryDirectory(prefix="supir-") as folder:
            make_photos(Path(folder) / "in", photos)
            results.append(_run(Path(folder), count, wait, drivers))
        if not as_json:
            _say(_line(results[-1]))
    facts = {"photos": photos, **wait.__dict__, "drivers": drivers, "runs": results, "date": time.strftime("%Y-%m-%d")}
    sys.stdout.write(json.dumps(facts) + "\n")


def make_photos(folder: Path, count: int) -> None:
    """Tiny photos, each of another content."""
    for n in range(count):
        file = folder / f"{n // FOLDER_PHOTOS:04d}" / f"{n:07d}.png"
        if n % FOLDER_PHOTOS == 0:
            file.parent.mkdir(parents=True)
        Image.frombytes("RGB", (2, 2), n.to_bytes(12, "big")).resize((SIDE_PX, SIDE_PX)).save(file, compress_level=1)


def _run(folder: Path, gpus: int, wait: Wait, drivers: int) -> dict[str, Any]:
    """One or more drivers at the same time, each with its shard of the photos and its share of the GPUs."""
    start = time.time()
    running = []
    facts = [folder / f"facts-{number}.json" for number in range(1, drivers + 1)]  # Ray writes to stdout, too
    for number, file in enumerate(facts, 1):
        orders = {"folder": str(folder), "gpus": gpus // drivers, "shard": f"{number}/{drivers}", "facts": str(file)}
        command = [
            sys.executable,
            "-c",
            "from jobs.bench_flow import drive; drive()",
            json.dumps(orders | wait.__dict__),
        ]
        running.append(subprocess.Popen(command, stdout=sys.stderr))
    try:
        codes = [process.wait() for process in running]
    finally:  # an interrupt ends them too
        for process in running:
            process.terminate()
    if any(codes):
        raise RuntimeError("a driver has failed; what it says stands above")
    found = [json.loads(file.read_text(encoding="utf-8")) for file in facts]
    first, last = min(one["first"] for one in found), max(one["last"] for one in found)
    rows, busy = sum(one["rows"] for one in found), sum(one["busy_s"] for one in found)
    return {
        "gpus": gpus,
        "rows": rows,
        "busy_s": round(busy, 1),
        "efficiency": round(busy / (gpus * (last - start)), 4),
        "efficiency_without_start": round(busy / (gpus * (last - first)), 4),
        "rows_per_s": round(rows / (last - first), 2),
        "start_s": round(first - start, 1),
        "tail_s": round(max(one["tail_s"] for one in found), 1),
        "longest_s": round(max(one["longest_s"] for one in found), 1),
        "driver_mb": found[0]["driver_mb"],
    }


def drive() -> None:
    """In a process of its own: run the flow as `sys.argv` says, and write down what it took."""
    orders = json.loads(sys.argv[1])
    folder, gpus, wait = Path(orders["folder"]), orders["gpus"], Wait(orders["median_s"], orders["spread"])
    os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"GPU": gpus})  # numbers to its scheduler
    settings = RunSettings(
        run=f"bench-{orders['shard'][0]}", input=str(folder / "in"), output=str(folder / "out"),
        presets=(load_preset("demo", ["size.min_size_px=64"]),), captioning=Captioning(), model="demo",
        model_digest="bench", format="png", quality=None, accept_damaged=False, restore_all=False,
        skip_if_sharper_than=None, limit=None, only=None, shard=orders["shard"], retry_failed=False,
        retry_captions=False, redo=False, latents="none", max_megapixels=1, photo_timeout_s=None, address=None,
        workers=gpus, gpus_per_worker=1.0, photos_per_batch=1, tile_batch=1, device="cpu", dtype=None,
        compiled=False, allow_download=False, allow_uris=(), log_format="text",
    )  # fmt: skip
    todo = make_plan(read_manifest(settings.input), settings).todo
    seen = _Seen(wait, todo.num_rows, gpus)
    flow.run(settings, todo, on_rows=seen.add, load=wait)
    Path(orders["facts"]).write_text(json.dumps(seen.facts()), encoding="utf-8")


class _Seen:
    """What a driver sees of its run.

    Args:
        wait: of the restorers.
        total: rows that will come.
        gpus: of this driver.
    """

    def __init__(self, wait: Wait, total: int, gpus: int):
        self._wait, self._total, self._gpus = wait, total, gpus
        self._busy_s, self._longest_s, self._first, self._ends = 0.0, 0.0, float("inf"), list[float]()
        self._memory: dict[int, int] = {}

    def add(self, new: list[Row]) -> None:
        """Finished rows."""
        for row in new:
            if row["status"] != "restored":
                raise RuntimeError(f"{row['photo_id']}: {row['error_message']}")
            seconds = self._wait.seconds(row["source_sha256"])
            self._busy_s, self._longest_s = self._busy_s + seconds, max(self._longest_s, seconds)
            end = row["finished_at"].timestamp()
            self._first = min(self._first, end - row["seconds"])
            self._ends.append(end)
            if len(self._ends) in (1, self._total) or len(self._ends) % max(1, self._total // 4) == 0:
                self._memory[len(self._ends)] = resident_bytes("VmRSS") // 2**20

    def facts(self) -> dict[str, Any]:
        """For the process that started this one."""
        self._ends.sort()
        last, full = self._ends[-1], self._ends[max(0, len(self._ends) - self._gpus)]
        return {
            "rows": len(self._ends), "busy_s": self._busy_s, "longest_s": self._longest_s,
            "first": self._first, "last": last, "tail_s": last - full, "driver_mb": self._memory,
        }  # fmt: skip


def _line(found: dict[str, Any]) -> str:
    memory = ", ".join(f"{mb} at {rows}" for rows, mb in found["driver_mb"].items())
    return (
        f"{found['gpus']:5d} {found['efficiency']:10.1%} {found['efficiency_without_start']:14.1%} "
        f"{found['rows_per_s']:7.2f} {found['start_s']:10.1f} {found['tail_s']:10.1f} {found['longest_s']:10.1f}   "
        f"{memory}"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
