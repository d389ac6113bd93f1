"""A cluster of three processes and a real store: submit, follow, stop; nodes come and go, a head dies, all goes on."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import rows
from pipeline.storage import Store
from tests.cluster.archive import Archive, background, job, make, submit, until
from tests.cluster.nodes import Nodes, nodes
from tests.jobs.command import REPOSITORY, supir
from tests.pipeline.photographs import jpeg
from tests.s3.gateway import Gateway

pytestmark = pytest.mark.slow  # minutes, and several machines' worth of processes

PHOTOS = 24
STEPS = 10


@pytest.fixture(scope="module")
def secret(s3: Gateway) -> str:
    return s3.admin.secret


@pytest.fixture(scope="module")
def archive(s3: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    import s3fs

    s3fs.S3FileSystem().mkdir("cluster")
    return make(tmp_path_factory.mktemp("archive"), "s3://cluster", PHOTOS)


@pytest.fixture(scope="module")
def cluster(s3: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head and a node with two GPUs."""
    with nodes(tmp_path_factory.mktemp("nodes"), s3.environment()) as made:
        made.add(gpus=2)
        yield made


def test_submitted_runs_from_the_first_to_the_last_photo(
    cluster: Nodes, archive: Archive, secret: str, tmp_path: Path
) -> None:
    words = archive.words("--workers", 3, "--gpus-per-worker", 1, "--log-format", "json", steps=STEPS)

    # Submitted twice: one job, whose third worker waits for a node that joins late.
    first = submit(cluster.api, *words)
    again = submit(cluster.api, *words)
    assert first["new"] and not again["new"] and again["id"] == first["id"]
    assert first["id"].startswith("supir-2026-") and first["id"].endswith("-1")
    log = tmp_path / "follow"
    follower = background("jobs", "logs", first["id"], "-f", "--address", cluster.api, log=log)
    until("rows", archive.rows)
    late = cluster.add(gpus=1)
    until("three workers", lambda: len({row["worker"] for row in archive.rows().values()}) == 3 or None)

    # Following shows how far it is by what lies in the output; Ctrl-C leaves the job running.
    until("progress", lambda: " done, " in log.read_text() and " left" in log.read_text())
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 130 and "goes on" in log.read_text()
    found = job(cluster.api, first["id"])
    assert found["state"] == "RUNNING" and found["run"]["state"] == "running"

    # Stopped when the photos are finished that have been begun: photos are left, and no record without a row.
    done = supir("jobs", "stop", first["id"], "--drain", "--address", cluster.api)
    assert done.returncode == 0, done.stderr
    found = until("the end", lambda: one_that_ended(cluster, first["id"]))
    assert found["exit_code"] in (130, 3), found  # 3: it was at its last photos by then
    drained = len(archive.rows())

    # Submitted again, it goes on; a node is killed meanwhile, and then the head with all that hangs on it.
    second = submit(cluster.api, *words)
    if found["exit_code"] == 130:
        assert second["new"] and second["id"].endswith("-2") and drained < PHOTOS
        until("more rows", lambda: len(archive.rows()) > drained or one_that_ended(cluster, second["id"]))
    late.kill()
    shown = supir("status", archive.output, "--gpu-hour-price", "2").stdout
    assert "GPU hours" in shown and "seconds per photo: " in shown, shown
    logs = supir("jobs", "logs", second["id"], "--address", cluster.api).stdout
    said = [shown, logs, supir("jobs", "list", "--address", cluster.api, "--json").stdout]
    for line in [line for line in logs.splitlines() if line.startswith("{")]:
        assert json.loads(line)["run"] and json.loads(line)["level"]
    assert any(line.startswith("{") for line in logs.splitlines())

    cluster.restart()
    cluster.add(gpus=2)
    third = submit(cluster.api, *words)
    assert third["new"]
    done = supir("jobs", "logs", third["id"], "-f", "--address", cluster.api)
    assert done.returncode == 3 and "finished, with failed photos" in done.stderr, done.stderr
    found_rows = archive.rows()
    assert len(found_rows) == PHOTOS
    assert {row["error_code"] for row in found_rows.values() if row["status"] == rows.FAILED} == {"corrupt"}
    by_run = archive.begun_of()
    assert by_run.total() == PHOTOS and len(by_run) >= 2, by_run
    assert Store(archive.output).exists("runs") and not list(Store(archive.output).entries("runs/leases"))

    # The same again has nothing to do.
    fourth = submit(cluster.api, *words)
    found = until("the end", lambda: one_that_ended(cluster, fourth["id"]))
    assert found["exit_code"] == 3 and archive.begun_of() == by_run

    said += [done.stdout, done.stderr, log.read_text(), json.dumps([found, first, second, third])]
    assert_stands_nowhere(secret, said, archive, cluster)

    # Every node that had workers has fetched the model once, and all its files.
    kept = [
        sorted(path.name for path in (home / "models").iterdir()) for home in cluster.homes() if home.name != "head"
    ]
    assert kept and all(len([name for name in names if not name.endswith(".lock")]) == 1 for names in kept)


def assert_stands_nowhere(secret: str, said: list[str], archive: Archive, cluster: Nodes) -> None:
    """Neither in what was said, nor in the output, nor in Ray's logs."""
    assert [text for text in said if secret in text] == []
    output = Store(archive.output)
    assert [e.path for e in output.entries() if secret.encode() in output.read(e.path)] == []
    logs_of_ray = [path for path in Path(cluster.temporary).rglob("*") if path.is_file() and not path.is_symlink()]
    assert logs_of_ray
    assert [str(path) for path in logs_of_ray if secret.encode() in path.read_bytes()] == []


def one_that_ended(cluster: Nodes, job_id: str) -> dict[str, Any] | None:
    found = job(cluster.api, job_id)
    return None if found["state"] in ("PENDING", "RUNNING") else found


def test_a_job_can_be_ended_at_once(cluster: Nodes, archive: Archive) -> None:
    other = archive._replace(output=archive.output + "-stopped")
    made = submit(cluster.api, *other.words("--workers", 1, "--gpus-per-worker", 1, steps=400))
    until("a run", lambda: job(cluster.api, made["id"])["run"])
    done = supir("jobs", "stop", made["id"], "--address", cluster.api)
    assert done.returncode == 0 and "stopped" in done.stderr
    assert job(cluster.api, made["id"])["state"] == "STOPPED"


def test_what_is_in_the_image_is_used_when_no_package_travels_and_another_release_is_refused(
    cluster: Nodes, archive: Archive, tmp_path: Path
) -> None:
    for package in ("supir_core", "pipeline", "jobs"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "pipeline" / "rows.py").open("a") as file:
        file.write("# another release\n")
    other = archive._replace(output=archive.output + "-other")
    node = cluster.add(gpus=4, PYTHONPATH=str(tmp_path))
    words = ("--no-package", "--workers", 6, "--gpus-per-worker", 1)
    until("the node", node.is_up)
    done = supir("submit", "--address", cluster.api, *other.words(*words, steps=STEPS), "--follow")
    node.kill()
    assert done.returncode == 2, done.stderr
    assert "error[other-release]" in done.stderr and "has supir 0.1.0-" in done.stderr
    assert "hint: give all nodes the same image" in done.stderr


def test_lists_on_a_cluster_name_no_local_files(cluster: Nodes, archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(jpeg(1))
    store = Store(archive.source.removesuffix("/scans"))
    store.write("list.csv", f"uri\n{archive.source}/1/001.jpg\n{tmp_path}/b.jpg\n".encode())
    other = archive._replace(source=store.uri("list.csv"), output=archive.output + "-listed")
    words = other.words("--workers", 1, "--gpus-per-worker", 1)
    done = supir("submit", "--address", cluster.api, *words, "--follow")
    assert done.returncode == 3, done.stderr
    found = {row["photo_id"].rpartition("/")[2]: row for row in other.rows().values()}
    assert found["001.jpg"]["status"] == "restored" and found["b.jpg"]["error_code"] == "uri-refused"
