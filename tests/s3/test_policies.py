"""The bucket policies of infra/aws on a real S3 store: a whole run with a node's rights, and what they do not allow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.storage import Store
from supir_core.errors import StorageError
from tests.infra.templates import INFRA
from tests.jobs.command import REPOSITORY
from tests.pipeline.photographs import jpeg
from tests.pipeline.runs import view
from tests.s3.gateway import Account, Gateway

ROLES = ("arn:aws:iam::123456789012:role/supir-head", "arn:aws:iam::123456789012:role/supir-nodes")


def policy(name: str, user: str, generous: bool, **buckets: str) -> str:
    """A template with this store's names.

    Args:
        name: of the template.
        user: has both roles.
        generous: the user's own rights are all that there are, as those of a role may be.
        buckets: their names here, by their names in the template.
    """
    text = (INFRA / "aws" / f"{name}-policy.json").read_text(encoding="utf-8")
    for role in ROLES:
        assert role in text
        text = text.replace(role, f"arn:aws:iam:::user/{user}")
    for before, after in sorted(buckets.items(), reverse=True):  # the longest first
        text = text.replace(f":::{before.replace('_', '-')}", f":::{after}")
    found = json.loads(text)
    if generous:
        first = found["Statement"][0]
        found["Statement"].append({**first, "Sid": "Everything", "Action": "s3:*"})
    return json.dumps(found)


@pytest.fixture(params=[False])
def node(request: pytest.FixtureRequest, s3: Gateway, fs: Any, bucket: str) -> Account:
    """A user with the rights of a node over two buckets."""
    user = f"node-of-{bucket}"
    account = s3.new_account(user)
    fs.mkdir(f"{bucket}-out")
    for name, number in (("1.jpg", 1), ("2.jpg", 2)):
        fs.call_s3("put_object", Bucket=bucket, Key=name, Body=jpeg(number))
    for name, target in (("originals", bucket), ("results", f"{bucket}-out")):
        text = policy(name, user, request.param, archive=bucket, archive_restored=f"{bucket}-out")
        fs.call_s3("put_bucket_policy", Bucket=target, Policy=text)
    return account


def as_node(s3: Gateway, node: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name, value in s3.environment(node).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def nobody_stays() -> Iterator[None]:
    """Clients that were made as a node are not the next test's."""
    import s3fs

    yield
    s3fs.S3FileSystem.clear_instance_cache()


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except StorageError as error:
        return error.code == "denied"
    return False


def test_a_node_restores_and_goes_on_but_changes_no_original_and_removes_no_result(
    s3: Gateway,
    bucket: str,
    node: Account,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, output = f"s3://{bucket}", f"s3://{bucket}-out/2026"
    as_node(s3, node, monkeypatch)
    command = [sys.executable, "-m", "tests.faults.driver", source, output, str(tmp_path / "journal"), "0"]
    for more in ({}, {}, {"redo": True}):  # the second finds the first one's results, the third writes over them
        words = [*command, json.dumps({"settings": more})]
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    found = view(output)
    assert {row["status"] for row in found.values()} == {"restored"} and len(found) == 2
    originals, results = Store(source), Store(output)
    assert refused(lambda: originals.write("1.jpg", b"spoilt")) and refused(lambda: originals.remove("1.jpg"))
    assert originals.read("1.jpg") == jpeg(1)
    image = found["1.jpg"]["image"]
    for path in (image, *(next(iter(results.entries(folder))).path for folder in ("index", "records", "claims"))):
        assert refused(lambda path=path: results.remove(path)), path
    assert results.size(image) == found["1.jpg"]["bytes"]
    assert [entry.path for folder in ("runs/leases", "replacing") for entry in results.entries(folder)] == []


@pytest.mark.parametrize("node", [False, True], indirect=True)
def test_roles_that_allow_everything_allow_no_more(
    s3: Gateway, fs: Any, bucket: str, node: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{bucket}-out"
    keys = [f"2026/{key}" for key in ("images/demo/1.jpg.png", "runs/r/run.json", "runs/leases/x/1-of-1.json")]
    for key in keys:
        fs.call_s3("put_object", Bucket=out, Key=key, Body=b"x")
    as_node(s3, node, monkeypatch)
    store = Store(f"s3://{out}")
    store.write(keys[0], b"y")
    store.remove(keys[2])
    assert store.size(keys[2]) is None

    import s3fs

    client = s3fs.S3FileSystem(skip_instance_cache=True)
    for action, more in {
        "put_object": {"Bucket": bucket, "Key": "1.jpg", "Body": b"spoilt"},
        "copy_object": {"Bucket": bucket, "Key": "1.jpg", "CopySource": f"{bucket}/2.jpg"},
        "put_object_acl": {"Bucket": bucket, "Key": "1.jpg", "ACL": "public-read"},
        "delete_object": {"Bucket": bucket, "Key": "1.jpg"},
    }.items():
        assert denied(client, action, more), action
    for key in keys[:2]:
        assert denied(client, "delete_object", {"Bucket": out, "Key": key}), key
        assert denied(client, "delete_object", {"Bucket": out, "Key": key, "VersionId": "null"}), key
    assert denied(client, "put_object_acl", {"Bucket": out, "Key": keys[0], "ACL": "public-read"})
    for one in (bucket, out):
        for action, more in {
            "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Suspended"}},
            "put_bucket_policy": {"Policy": "{}"},
            "delete_bucket_policy": {},
            "delete_bucket": {},
        }.items():
            assert denied(client, action, {"Bucket": one, **more}), action
    assert Store(f"s3://{bucket}").read("1.jpg") == jpeg(1) and store.read(keys[0]) == b"y"


def denied(client: Any, action: str, more: dict[str, Any]) -> bool:
    try:
        client.call_s3(action, **more)
    except PermissionError:
        return True
    return False


def test_others_get_nothing(s3: Gateway, bucket: str, node: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    as_node(s3, s3.new_account(f"other-of-{bucket}"), monkeypatch)
    assert refused(lambda: Store(f"s3://{bucket}").read("1.jpg"))
    assert refused(lambda: Store(f"s3://{bucket}-out").write("x", b"x"))
