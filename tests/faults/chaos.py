"""Runs of two looks at once, while everything around them is killed and the store fails; then the promise is checked.

    python -m tests.faults.chaos [--short] [--seed N] [--seeds N] [--photos N] [--folder DIR]

Real Ray with nodes of its own, a real S3 store behind a proxy of faults (or folders, where none is installed), and a
restorer that only pretends. The seed decides what is killed, when (by the photos begun so far), and the proxy's dice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ray.cluster_utils import Cluster

from pipeline import index, rows
from pipeline.storage import Store
from supir_core.presets import load_preset
from tests.conftest import ENVIRONMENT
from tests.faults.processes import named
from tests.faults.promise import look_at
from tests.pipeline.photographs import jpeg
from tests.pipeline.pretend import POISON, SLEEP, Pretend
from tests.pipeline.runs import TINY
from tests.s3.gateway import Gateway, gateway, missing
from tests.s3.proxy import Faults, Proxy, proxy

REPOSITORY = Path(__file__).parents[2]
LOOKS = ([], ["sampling.seed=99"])  # changes to the tiny preset


class Form(NamedTuple):
    """How much is done to a run."""

    deeds: dict[str, int]
    faults: Faults
    limit_s: float  # of a photo, and longer than the store keeps one waiting


LONG = Form(
    {"restore worker": 8, "caption worker": 2, "driver": 5, "attempts": 1, "node": 2},
    Faults(slow_down=0.3, reset=0.02, lost=0.02, cut=0.02, stall=0.01),
    limit_s=60.0,
)
SHORT = Form(  # each refused request waits longer and longer: with 30 % of them a photo takes seven seconds
    {"restore worker": 3, "caption worker": 1, "driver": 3, "node": 1},
    Faults(slow_down=0.1, reset=0.02, lost=0.02, cut=0.02, stall=0.01),
    limit_s=20.0,
)
NODE_IS_BACK_AFTER = 0.1  # of the photos
EARLY = 0.05  # of the photos: captions are soon done, but a driver that starts again begins with them again
LAST = 0.5  # of the photos have been begun: what comes later finds nothing to kill
ACTORS = {"restore worker": "MapBatches(RestoreStage)", "caption worker": "MapBatches(CaptionStage)"}
BATCH_S = 0.05
POISONED = f"5/{POISON}.jpg"  # late, when the drivers have been killed: every run that comes to it tries it three times
RUNS = 20  # of one look, at most
SMALL = {"num_cpus": 2, "object_store_memory": 100 * 2**20}  # of a node; the CPUs are numbers to Ray's scheduler


@dataclass
class Look:
    """The runs of one look: the same command again whenever one has ended before its time."""

    command: list[str]
    journal: Path
    runs: int = 0
    process: subprocess.Popen[bytes] | None = None
    done: bool = False
    codes: Counter[int] = field(default_factory=Counter)  # of runs that were not killed

    def tend(self) -> None:
        """Start a run if there is none; see whether one has ended by itself."""
        code = None if self.process is None else self.process.poll()
        if self.done or (self.process is not None and code is None):
            return
        if code is not None and code != -signal.SIGKILL:
            self.codes[code] += 1
        if code == 0:
            self.done = True
            return
        assert self.runs < RUNS, f"{RUNS} runs were not enough; see {self.journal}.log"
        self.runs += 1
        with self.journal.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=REPOSITORY, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self) -> bool:
        """SIGKILL to the driver, if there is one and it has begun something."""
        if self.done or self.process is None or self.process.poll() is not None or not self.journal.exists():
            return False
        self.process.kill()
        self.process.wait()
        return True


class Deed(NamedTuple):
    """Something to be killed, or a node to be added."""

    after: float  # of the photos have been begun
    what: str


def schedule(dice: random.Random, counts: dict[str, int]) -> list[Deed]:
    """What happens when."""
    end = {"caption worker": EARLY}
    deeds = [
        Deed(dice.uniform(0.01, end.get(what, LAST)), what) for what, count in counts.items() for _ in range(count)
    ]
    deeds += [Deed(deed.after + NODE_IS_BACK_AFTER, "node back") for deed in deeds if deed.what == "node"]
    return sorted(deeds)


def photos(count: int) -> dict[str, bytes]:
    """Good ones, copies, damaged ones, one that kills its worker, and one that never ends; captions for some."""
    files = {POISONED: jpeg(count), f"0/{SLEEP}.jpg": jpeg(count + 1)}
    for n in range(count - len(files)):
        if n % 20 == 7:
            files[f"copies/{n:05d}.jpg"] = jpeg(n - 2)
        elif n % 20 == 13:
            files[f"damaged/{n:05d}.jpg"] = jpeg(n)[: 0 if n % 40 == 13 else 300]
        else:
            files[f"{n % 7 + 1}/{n:05d}.jpg"] = jpeg(n)
            if n % 25 == 0:
                files[f"{n % 7 + 1}/{n:05d}.txt"] = b"a street"
    return files


class Place(NamedTuple):
    """Where photos come from and go to."""

    source: str
    output: str
    kind: str
    between: Proxy | None  # the proxy, if there is one


@contextmanager
def place(folder: Path, store: Gateway | None, faults: Faults, seed: int) -> Iterator[Place]:
    """New buckets or folders; this process and its children get to them through the proxy, if there is a store."""
    if store is None:
        yield Place(str(folder / "in"), str(folder / "out"), "folders", None)
        return
    import s3fs

    _direct(store)
    name = f"chaos-{seed}-{os.getpid()}"
    for bucket in (name, f"{name}-out"):
        s3fs.S3FileSystem().mkdir(bucket)
    with proxy(store.endpoint, faults, seed) as between:
        yield Place(f"s3://{name}/in", f"s3://{name}-out/out", "S3", between)


def _direct(store: Gateway | None) -> None:
    """No proxy for this process from now on."""
    if store is not None:
        import s3fs

        os.environ.update(store.environment())
        s3fs.S3FileSystem.clear_instance_cache()


def one(seed: int, count: int, form: Form, store: Gateway | None, folder: Path) -> dict[str, Any]:
    """One run of chaos; what happened, and where the promise did not hold."""
    start, dice = time.monotonic(), random.Random(seed)
    with place(folder, store, form.faults, seed) as where:
        files = photos(count)
        originals = Store(where.source)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: originals.write(name, files[name]), files))
        before = {entry.path: entry.version for entry in originals.entries()}
        names = {hashlib.sha256(files[name]).hexdigest(): name for name in sorted(files, reverse=True)}
        (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
        if store is not None and where.between is not None:
            os.environ.update(store._replace(endpoint=where.between.endpoint).environment())
        looks, done, extra = disturbed(where, folder, form, dice, len(names) * len(LOOKS))
        _direct(store)
        presets = [load_preset("demo", [*TINY, *changes]) for changes in LOOKS]
        kept = look_at(where.source, where.output, presets)
        broken = kept.broken
        if {entry.path: entry.version for entry in Store(where.source).entries()} != before:
            broken["originals changed"] = ["some"]
        if leases := [entry.path for entry in Store(where.output).entries("runs/leases")]:
            broken["leases left"] = leases
        if innocents := given_up(where, {*rows.TRANSIENT, "timed-out"}):
            broken["given up"] = innocents
        faults = dict(where.between.counts) if where.between else {}
        begun = sum((Pretend(look.journal).begun() for look in looks), Counter[str]())
    return {
        "seed": seed, "store": where.kind, "photos": count, "looks": len(LOOKS),
        "seconds": round(time.monotonic() - start),
        "killed": dict(done), "runs": sum(look.runs for look in looks), "runs_to_finish": extra,
        "ended_with_an_error": sum(look.codes.total() - look.codes[0] for look in looks),
        "faults": faults, "begun": begun.total(), "poison_begun": begun[POISONED],
        "restored": kept.restored, "duplicates": kept.duplicates, "failed": kept.failed,
        "lost": len(kept.lost), "twice": len(kept.twice), "wrong_sha256": len(kept.wrong),
        "unproved": len(kept.unproved), "broken": broken,
    }  # fmt: skip


def given_up(where: Place, reasons: Collection[str]) -> list[str]:
    """Photos that failed for one of these reasons, but for the two whose own fault it is."""
    failed = index.query(Store(where.output), "select photo_id, error_code from photos where status = 'failed'")
    found = [row["photo_id"] for row in failed.to_pylist() if row["error_code"] in reasons]
    return [photo for photo in found if POISON not in photo and SLEEP not in photo]


def disturbed(
    where: Place, folder: Path, form: Form, dice: random.Random, total: int
) -> tuple[list[Look], Counter[str], int]:
    """Run both looks to their end through a seed's deeds; then whatever was hit by chance is tried again in peace."""
    due = schedule(dice, form.deeds)
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "num_gpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(**SMALL, num_gpus=2) for _ in range(2)]
        looks = [
            look_of(where, folder, number, changes, form.limit_s, cluster.address)
            for number, changes in enumerate(LOOKS)
        ]
        done, start = Counter[str](), time.monotonic()
        try:
            while not all(look.done for look in looks):
                for look in looks:
                    look.tend()
                begun = sum(len(Pretend(look.journal).begun()) for look in looks) / total
                for deed in due:
                    if deed.after <= begun and do(deed.what, cluster, nodes, looks, dice):
                        print(f"  {time.monotonic() - start:4.0f} s, {begun:4.0%} begun: {deed.what}", file=sys.stderr)
                        done[deed.what] += 1
                        due.remove(deed)
                        break
                time.sleep(0.2)
            extra = 0
            while extra < 3 and given_up(where, rows.TRANSIENT):
                extra += 1
                for look in looks:
                    look.done, look.process = False, None
                while not all(look.done for look in looks):
                    for look in looks:
                        look.tend()
                    time.sleep(0.2)
        finally:
            for look in looks:
                if look.process is not None:
                    look.process.kill()
                    look.process.wait()
    finally:
        cluster.shutdown()
    return looks, done, extra


def look_of(where: Place, folder: Path, number: int, changes: list[str], limit_s: float, address: str) -> Look:
    journal = folder / f"journal-{number}"
    settings = {
        "address": address, "workers": 2, "gpus_per_worker": 1.0, "photos_per_batch": 8, "photo_timeout_s": limit_s,
    }  # fmt: skip
    more = {"settings": settings, "look": changes, "pretend": {"names": str(folder / "names.json")}}
    words = [where.source, where.output, journal, BATCH_S, json.dumps(more)]
    return Look([sys.executable, "-m", "tests.faults.driver", *map(str, words)], journal)


def do(what: str, cluster: Any, nodes: list[Any], looks: list[Look], dice: random.Random) -> bool:
    """Kill something, or add a node; whether there was something to kill."""
    if what == "driver":
        return any(look.kill() for look in dice.sample(looks, len(looks)))
    if what == "node":
        cluster.remove_node(nodes.pop(dice.randrange(len(nodes))), allow_graceful=False)
        return True
    if what == "node back":
        nodes.append(cluster.add_node(**SMALL, num_gpus=2))
        return True
    found = named(ACTORS.get(what, "ray::Attempts"))
    if found:
        os.kill(dice.choice(found), signal.SIGKILL)
    return bool(found)


def say(facts: dict[str, Any]) -> None:
    killed = ", ".join(f"{count} {what}" for what, count in sorted(facts["killed"].items()))
    faults = ", ".join(f"{count} {fault}" for fault, count in facts["faults"].items())
    failed = ", ".join(f"{count} {code}" for code, count in sorted(facts["failed"].items()))
    print(
        f"seed {facts['seed']}: {facts['photos']} photos x {facts['looks']} looks on {facts['store']}, "
        f"{facts['seconds']} s, {facts['runs']} runs\n"
        f"  killed: {killed}; and by the poisoned photo, begun {facts['poison_begun']} times\n"
        f"  store: {faults or 'no faults'}\n"
        f"  restored {facts['restored']} ({facts['duplicates']} duplicates), failed {failed}\n"
        f"  lost {facts['lost']}, twice {facts['twice']}, wrong sha256 {facts['wrong_sha256']}",
        flush=True,
    )
    for name, found in facts["broken"].items():
        print(f"  BROKEN {name}: {found[:5]}", flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=1, help="the first")
    options.add_argument("--seeds", type=int, default=1, help="how many, one after another")
    options.add_argument("--photos", type=int, default=500)
    options.add_argument("--short", action="store_true", help="fewer deeds, a less busy store")
    options.add_argument("--folder", type=Path, help="to work in, which stays")
    asked = options.parse_args()
    os.environ.update(ENVIRONMENT)
    good = True
    with tempfile.TemporaryDirectory(prefix="chaos-") as elsewhere:
        folder = Path(asked.folder or elsewhere).resolve()
        with _store(folder) as store:
            for seed in range(asked.seed, asked.seed + asked.seeds):
                (folder / str(seed)).mkdir(parents=True)
                facts = one(seed, asked.photos, SHORT if asked.short else LONG, store, folder / str(seed))
                say(facts)
                good &= not facts["broken"]
                print(json.dumps(facts), flush=True)
    return 0 if good else 1


@contextmanager
def _store(folder: Path) -> Iterator[Gateway | None]:
    if missing():
        yield None
        return
    with gateway(folder / "store") as store:
        yield store


if __name__ == "__main__":
    sys.exit(main())
