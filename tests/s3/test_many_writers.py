"""Several writers and a real S3 store: leases, commits and claims come to one result, as between folders."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline import claims, commit, replacing
from pipeline.lease import held
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import InputError
from tests.pipeline.photographs import jpeg
from tests.pipeline.runs import settings_for, view
from tests.pipeline.test_commit_races import LOOK, PATH, row
from tests.s3.test_run_on_s3 import restore, upload

FAST = {"renew_s": 0.2, "stale_s": 2.0}
PATIENCE_S = 120


@pytest.fixture
def setting(bucket: str) -> RunSettings:
    return settings_for(f"s3://{bucket}/in", f"s3://{bucket}/out")


def lease_of(store: Store) -> Any:
    (entry,) = store.entries("runs/leases")
    return entry.path, json.loads(store.read(entry.path))


def test_a_lease_on_a_store(setting: RunSettings) -> None:
    store, interrupted = Store(setting.output), threading.Event()
    with held(store, setting, lambda: None, **FAST):
        with pytest.raises(InputError) as raised, held(store, setting, lambda: None, **FAST):
            pass
        assert raised.value.code == "run-active"
        path, ours = lease_of(store)
        wait = threading.Event()
        for _ in range(PATIENCE_S * 5):
            if lease_of(store)[1]["renewed"] > ours["renewed"]:
                break
            wait.wait(0.2)
        assert lease_of(store)[1]["renewed"] > ours["renewed"]
    assert list(store.entries("runs/leases")) == []

    theirs = ours | {"machine": "another", "token": "theirs", "renewed": "2020-01-01T00:00:00+00:00"}
    store.write(path, json.dumps(theirs).encode())
    with pytest.raises(InputError) as raised, held(store, setting, interrupted.set, **FAST):
        assert lease_of(store)[1]["token"] not in ("theirs", ours["token"]), "taken over, as it is stale"
        store.write(path, json.dumps(theirs).encode())
        assert interrupted.wait(timeout=PATIENCE_S)
    assert raised.value.code == "run-replaced"
    assert lease_of(store)[1]["token"] == "theirs"


def test_workers_at_the_same_time_come_to_one_result(bucket: str) -> None:
    def work(number: int, out: str) -> Any:
        picture = f"picture of {number}".encode()
        return commit.commit(Store(out), LOOK, PATH, row(f"{number}"), picture, lambda found: found["run"] != "old")

    for turn in range(4):
        out = f"s3://{bucket}/out-{turn}"
        if turn % 2:
            old = commit.commit(Store(out), LOOK, PATH, row("old"), b"an earlier picture")
            claims.make(Store(out), LOOK, claims.work_of(old), claims.Claim(PATH, PATH, "old"), None)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(work, range(4), [out] * 4))
        lying = hashlib.sha256(Store(out).read(commit.image_path(LOOK, PATH, "png"))).hexdigest()
        record = commit.find(Store(out), LOOK, PATH, PATH)
        assert record is not None and record["sha256"] == lying
        assert {came["sha256"] for came in found} == {lying}
        assert claims.find(Store(out), LOOK, claims.work_of(record)) is None
        assert replacing.marked(Store(out), LOOK) == ([PATH] if turn % 2 else [])


def test_of_many_claims_one_stands(bucket: str) -> None:
    store = Store(f"s3://{bucket}/out")
    made = [claims.Claim(f"{n}.jpg", f"{n}.jpg", "run") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda claim: claims.make(store, LOOK, "0" * 64, claim, None), made))
    first = claims.find(store, LOOK, "0" * 64)
    assert first in made
    claims.make(store, LOOK, "0" * 64, made[0], made[1] if first == made[0] else made[0])
    assert claims.find(store, LOOK, "0" * 64) == first, "only over what has been looked at"


def test_copies_in_a_bucket_show_one_picture(fs: Any, bucket: str, tmp_path: Path) -> None:
    files = {f"in/{n}.jpg": jpeg(n % 2) for n in range(6)}
    upload(fs, bucket, files)
    out = f"s3://{bucket}/out"
    assert sum(restore(f"s3://{bucket}/in", out, tmp_path).begun().values()) == 2
    found = view(out)
    assert sorted(bool(each["duplicate_of"]) for each in found.values()) == [False] * 2 + [True] * 4
    first = next(key for key, each in found.items() if not each["duplicate_of"])
    upload(fs, bucket, {f"in/{first}": jpeg(9)})
    again = tmp_path / "again"
    again.mkdir()
    assert sum(restore(f"s3://{bucket}/in", out, again).begun().values()) == 2, "the changed one, and one of its copies"
    for each in view(out).values():
        assert hashlib.sha256(Store(out).read(each["image"])).hexdigest() == each["sha256"]
    assert len({each["image"] for each in view(out).values()}) == 3
