"""Whole runs from a real S3 store to it: the same rows as between folders, clear refusals, originals that stay."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import commit, rows
from pipeline.rows import Row
from pipeline.storage import Store
from tests.jobs.command import REPOSITORY, supir
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import settings_for, view
from tests.s3.gateway import Account, Gateway

PHOTOS = {
    "1910/a.jpg": jpeg(1),
    "1910/a.txt": b"a street",
    "1910/b.jpg": jpeg(2),
    "odd/IMG[1] 100%+.jpg": jpeg(3),
    "odd/\u00e9t\u00e9.jpg": jpeg(4),
    "bad/half.jpg": jpeg(5)[:300],
    "bad/empty.jpg": b"",
    "notes.md": b"not a photo",
}
WHERE = (
    "source_uri", "source_version", "worker", "run", "finished_at", "fetch_s", "restore_s", "networks_s", "commit_s",
    "seconds",
)  # fmt: skip
"""Columns that tell where and when, not what."""


def upload(fs: Any, bucket: str, files: dict[str, bytes]) -> None:
    for key, content in files.items():
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=content)


def restore(source: str | Path, output: str | Path, folder: Path) -> Pretend:
    """A run in a process of its own, as its workers need the store's address from the start."""
    journal = folder / "journal"
    command = [sys.executable, "-m", "tests.faults.driver", str(source), str(output), str(journal), "0"]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    return Pretend(journal)


def what(found: dict[str, Row]) -> dict[str, Row]:
    return {photo: {k: v for k, v in row.items() if k not in WHERE} for photo, row in found.items()}


def test_between_buckets_a_run_gives_what_it_gives_between_folders(fs: Any, bucket: str, tmp_path: Path) -> None:
    upload(fs, bucket, PHOTOS)
    put(tmp_path / "in", dict(PHOTOS))
    fs.mkdir(f"{bucket}-out")
    remote = f"s3://{bucket}-out/looks"
    restore(f"s3://{bucket}", remote, tmp_path)
    restore(tmp_path / "in", tmp_path / "out", tmp_path)
    ours, theirs = view(remote), view(tmp_path / "out")
    assert what(ours) == what(theirs) and len(ours) == 6
    assert {photo: row["error_code"] for photo, row in ours.items() if row["status"] == rows.FAILED} == {
        "bad/half.jpg": "corrupt",
        "bad/empty.jpg": "empty",
    }
    for row in ours.values():
        if row["status"] == rows.RESTORED:
            assert hashlib.sha256(Store(remote).read(row["image"])).hexdigest() == row["sha256"]
    again = tmp_path / "again"
    again.mkdir()
    assert restore(f"s3://{bucket}", remote, again).batches() == []
    upload(fs, bucket, {"1910/b.jpg": jpeg(9)})
    assert restore(f"s3://{bucket}", remote, again).begun() == {"1910/b.jpg": 1}


def test_wrong_credentials_end_the_command_before_anything_starts(s3: Gateway, bucket: str, tmp_path: Path) -> None:
    wrong = os.environ | s3.environment(Account(s3.admin.key, "wrong"))
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "run", "-i", f"s3://{bucket}", "-o", tmp_path]
    done = subprocess.run(command, cwd=REPOSITORY, env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error[denied]"), done.stderr
    assert "hint:" in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def guarded(s3: Gateway, fs: Any, bucket: str) -> Account:
    """A user who may read the originals but not write them, with a bucket of its own for results."""
    worker = s3.new_account(f"worker-of-{bucket}")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:aws:iam:::user/worker-of-{bucket}"]},
                "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
            }
        ],
    }
    fs.call_s3("put_bucket_policy", Bucket=bucket, Policy=json.dumps(policy))
    return worker


def test_read_only_originals_are_enough_and_stay_as_they_are(
    s3: Gateway, fs: Any, bucket: str, guarded: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(fs, bucket, PHOTOS)
    before = {key: fs.info(f"{bucket}/{key}")["ETag"] for key in PHOTOS}
    for name, value in s3.environment(guarded).items():
        monkeypatch.setenv(name, value)
    restore(f"s3://{bucket}", tmp_path / "out", tmp_path)
    assert len(view(tmp_path / "out")) == 6
    refused = supir("run", "-i", tmp_path / "out" / "images", "-o", f"s3://{bucket}/out")
    assert refused.returncode == 2 and "error[denied]" in refused.stderr
    assert {key: fs.info(f"{bucket}/{key}")["ETag"] for key in PHOTOS} == before


def test_a_record_is_found_where_it_was_put(fs: Any, bucket: str) -> None:
    """Commit and find work on S3 with a photo's odd place, too."""
    settings = settings_for(f"s3://{bucket}", f"s3://{bucket}/out")
    store, look = Store(settings.output), settings.preset.folder
    row = {"photo_id": "x", "status": rows.FAILED, "finished_at": datetime.datetime.now(datetime.UTC)}
    commit.commit(store, look, "odd/%2F/IMG[1]*.jpg", row, None)
    assert commit.find(store, look, "odd/%2F/IMG[1]*.jpg", "x") is not None
