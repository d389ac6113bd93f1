"""A small archive in a real store, a packed model beside it, and the command line as an operator uses it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline import index
from pipeline.storage import Store
from supir_core import packing
from supir_core.errors import InputError
from tests.core.tiny_model import SDXL, SUPIR, put
from tests.jobs.command import PROGRAM, REPOSITORY, supir
from tests.pipeline.photographs import jpeg

PATIENCE_S = 900.0
T = TypeVar("T")


class Archive(NamedTuple):
    """Where everything is."""

    source: str
    output: str
    model: str
    photos: int

    def words(self, *more: object, steps: int = 2) -> list[str]:
        """Options of a run over it."""
        return [
            "-i", self.source, "-o", self.output, "--model", self.model, "--preset", "demo", "--device", "cpu",
            "--set", f"sampling.num_steps={steps}", "--set", "size.min_size_px=64", "--photos-per-batch", "1",
            *map(str, more),
        ]  # fmt: skip

    def rows(self) -> dict[str, dict[str, Any]]:
        """The newest row of every photo so far."""
        try:
            found = index.query(Store(self.output), "select * from photos").to_pylist()
        except InputError:
            return {}
        return {row["photo_id"]: row for row in found}

    def begun_of(self) -> Counter[str]:
        """Restored photos by the run that restored them, by their records."""
        store = Store(self.output)
        records = [json.loads(store.read(e.path)) for e in store.entries("records")]
        return Counter(record["run"] for record in records)


def make(folder: Path, source: str, photos: int, bad: int = 1) -> Archive:
    """Photos, of which some are damaged, and a packed model of a few thousand weights.

    Args:
        folder: of this machine, to pack the model in.
        source: a bucket or folder; originals, model and results lie in folders of it.
        photos: how many.
        bad: of these.
    """
    store = Store(f"{source}/scans")
    for n in range(photos):
        store.write(f"{n % 3}/{n:03d}.jpg", jpeg(n) if n >= bad else jpeg(n)[:300])
    raw = put(folder / "raw", {"sdxl.safetensors": SDXL, "supir.safetensors": SUPIR})
    plan = packing.plan_packing(raw / "sdxl.safetensors", raw / "supir.safetensors", [], "fp32")
    packing.pack(plan, folder / "packed", lambda count: None)
    for file in (folder / "packed").iterdir():
        Store(f"{source}/models/tiny").upload(str(file), file.name)
    return Archive(f"{source}/scans", f"{source}/restored/2026", f"{source}/models/tiny", photos)


def said(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`supir ...`, run to its end; printed with what it said, for `pytest -s` and for tests that fail."""
    print(f"$ supir {shlex.join(map(str, words))}", flush=True)
    done = supir(*words, **environment)
    print(f"{done.stdout}{done.stderr}[exit code {done.returncode}]\n", flush=True)
    return done


def submit(address: str, *words: object, **environment: str) -> dict[str, Any]:
    """`supir submit --json`: the job's id, and whether it is new."""
    done = said("submit", "--address", address, *words, "--json", **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def job(address: str, job_id: str) -> dict[str, Any]:
    """`supir jobs status --json`."""
    done = supir("jobs", "status", job_id, "--address", address, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def until(what: str, ask: Callable[[], T | None], limit_s: float = PATIENCE_S) -> T:
    """The first answer that is something."""
    end = time.monotonic() + limit_s
    while True:
        found = ask()
        if found:
            return found
        assert time.monotonic() < end, f"waited {limit_s:g} s for {what}"
        time.sleep(0.5)


def background(*words: object, log: Path) -> subprocess.Popen[bytes]:
    """`supir ...` in the background, where Ctrl-C reaches it; what it says goes to a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            ["env", "--default-signal=INT", *PROGRAM, *map(str, words)], cwd=REPOSITORY, env=dict(os.environ),
            stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip
