"""A cluster of three processes and a real store: submit, follow, stop; nodes come and go, a head dies, all goes on."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import metrics, rows
from pipeline.storage import Store
from tests.cluster.archive import Archive, background, job, make, said, submit, until
from tests.cluster.nodes import Nodes, nodes
from tests.core.tiny_model import SDXL, SUPIR, put
from tests.jobs.command import REPOSITORY
from tests.pipeline.photographs import jpeg
from tests.pipeline.photographs import put as put_files
from tests.s3.gateway import Gateway

pytestmark = pytest.mark.slow  # minutes, and several machines' worth of processes

PHOTOS = 40
STEPS = 20  # about a photo a second on two idle cores: all is not over before it is to end


@pytest.fixture(scope="module")
def secret(s3: Gateway) -> str:
    return s3.admin.secret


@pytest.fixture(scope="module")
def told() -> list[str]:
    """What commands and the Jobs API have said."""
    return []


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


def words_of(archive: Archive) -> list[str]:
    """Of the run that the first two tests are about."""
    return archive.words("--workers", 3, "--gpus-per-worker", 1, "--log-format", "json", steps=STEPS)


def test_a_run_is_submitted_followed_and_drained_while_a_node_joins_late(
    cluster: Nodes, archive: Archive, told: list[str], tmp_path: Path
) -> None:
    words = words_of(archive)

    # Submitted twice: one job, whose third worker waits for a node that joins late.
    first = submit(cluster.api, *words)
    again = submit(cluster.api, *words)
    assert first["new"] and not again["new"] and again["id"] == first["id"]
    assert first["id"].startswith("supir-2026-") and first["id"].endswith("-1")
    log = tmp_path / "follow"
    follower = background("jobs", "logs", first["id"], "-f", "--address", cluster.api, log=log)
    until("a run", lambda: job(cluster.api, first["id"])["run"])
    cluster.add(gpus=1)
    until("three workers", lambda: len({row["worker"] for row in archive.rows().values()}) == 3 or None)

    # Following shows how far it is by what lies in the output; Ctrl-C leaves the job running.
    until("progress", lambda: " done, " in log.read_text() and " left" in log.read_text())
    follower.send_signal(signal.SIGINT)
    assert follower.wait(60) == 130 and "goes on" in log.read_text()
    print(log.read_text())
    found = job(cluster.api, first["id"])
    assert found["state"] == "RUNNING" and found["run"]["state"] == "running"
    exported = {name for name in exported_by(cluster) if name.startswith("ray_supir_")}  # long after all began

    # Stopped when the photos are finished that have been begun: photos are left.
    done = said("jobs", "stop", first["id"], "--drain", "--address", cluster.api)
    assert done.returncode == 0, done.stderr
    status = said("jobs", "status", first["id"], "--address", cluster.api).stdout
    found = until("the end", lambda: one_that_ended(cluster, first["id"]))
    drained = len(archive.rows())
    assert found["exit_code"] == 130 and drained < PHOTOS, found
    shown = said("status", archive.output, "--gpu-hour-price", "2").stdout
    for part in (" done, ", " failed, ", " left", " MP/s", " busy of 3", "GPU hours, ", " at 2 an hour", "networks "):
        assert part in shown, part
    told += [log.read_text(), shown, status, everything_about_jobs(cluster)]

    # Prometheus finds what rules and dashboard ask for, under these names and no others.
    known = {name for metric in metrics.ALL for name in metric.exported()}
    unhappy = metrics.RETRIES.exported() | metrics.STORE_ERRORS.exported()  # nothing to count, where all is well
    assert exported <= known and known - exported <= unhappy, exported ^ known


def test_it_goes_on_after_a_node_and_the_head_have_died(
    cluster: Nodes, archive: Archive, told: list[str], secret: str
) -> None:
    words, drained = words_of(archive), len(archive.rows())
    second = submit(cluster.api, *words)
    assert second["new"] and second["id"].endswith("-2")
    until("more rows", lambda: len(archive.rows()) > drained)
    cluster.running[-1].kill()  # the one that joined late
    logs = said("jobs", "logs", second["id"], "--address", cluster.api).stdout
    listed = said("jobs", "list", "--address", cluster.api).stdout
    told += [logs, listed, everything_about_jobs(cluster)]
    for line in [line for line in logs.splitlines() if line.startswith("{")]:
        assert json.loads(line)["run"] and json.loads(line)["level"]
    assert any(line.startswith("{") for line in logs.splitlines())

    cluster.restart()
    cluster.add(gpus=2)
    third = submit(cluster.api, *words)
    assert third["new"]
    done = said("jobs", "logs", third["id"], "-f", "--address", cluster.api)
    assert done.returncode == 3 and "finished, with failed photos" in done.stderr, done.stderr
    found_rows = archive.rows()
    assert len(found_rows) == PHOTOS
    assert {row["error_code"] for row in found_rows.values() if row["status"] == rows.FAILED} == {"corrupt"}
    by_run = archive.begun_of()
    assert by_run.total() == PHOTOS and len(by_run) == 3, by_run
    assert Store(archive.output).exists("runs") and not list(Store(archive.output).entries("runs/leases"))
    said("status", archive.output, "--gpu-hour-price", "2")

    # The same again has nothing to do.
    fourth = submit(cluster.api, *words)
    found = until("the end", lambda: one_that_ended(cluster, fourth["id"]))
    assert found["exit_code"] == 3 and archive.begun_of() == by_run

    told += [done.stdout, done.stderr, everything_about_jobs(cluster)]
    assert_stands_nowhere(secret, told, archive, cluster)

    # Every node that had workers has fetched the model once, and all its files.
    kept = [
        sorted(path.name for path in (home / "models").iterdir()) for home in cluster.homes() if home.name != "head"
    ]
    assert kept and all(len([name for name in names if not name.endswith(".lock")]) == 1 for names in kept)


def exported_by(cluster: Nodes) -> set[str]:
    """Names of all metrics that the nodes export, at the addresses that Ray tells Prometheus."""
    found = set()
    targets = json.loads(cluster.targets.read_text())
    for address in [address for group in targets for address in group["targets"]]:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            found |= set(re.findall(r"^(\w+)[{ ]", answer.read().decode(), re.MULTILINE))
    return found


def everything_about_jobs(cluster: Nodes) -> str:
    """What the Jobs API tells whoever asks: entrypoints, environment, metadata."""
    with urllib.request.urlopen(f"{cluster.api}/api/jobs/", timeout=30) as answer:
        found: str = answer.read().decode()
    assert "SUPIR_SUBMISSION" in found and "supir.output" in found
    return found


def assert_stands_nowhere(secret: str, told: list[str], archive: Archive, cluster: Nodes) -> None:
    """Neither in what was said, nor in the output, nor in Ray's logs."""
    assert [text for text in told if secret in text] == []
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
    done = said("jobs", "stop", made["id"], "--address", cluster.api)
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
    done = said("submit", "--address", cluster.api, *other.words(*words, steps=STEPS), "--follow")
    node.kill()
    assert done.returncode == 2, done.stderr
    assert "error[other-release]" in done.stderr and "has supir 0.1.0-" in done.stderr
    assert "hint: give all nodes the same image" in done.stderr


def test_lists_on_a_cluster_name_neither_local_files_nor_private_addresses(
    cluster: Nodes, archive: Archive, tmp_path: Path
) -> None:
    local = put_files(tmp_path, dict.fromkeys(("b.jpg", "c.jpg", "d.jpg"), jpeg(1)))
    store = Store(archive.source.removesuffix("/scans"))
    refused = [f"{local}/b.jpg", f"file://{local}/c.jpg", f"simplecache::file://{local}/d.jpg"]
    refused += [f"{cluster.api}/e.jpg", "memory://f.jpg"]
    store.write("list.csv", "\n".join(["uri", f"{archive.source}/1/001.jpg", *refused]).encode())
    other = archive._replace(source=store.uri("list.csv"), output=archive.output + "-listed")
    words = other.words("--workers", 1, "--gpus-per-worker", 1)
    done = said("submit", "--address", cluster.api, *words, "--follow")
    assert done.returncode == 3, done.stderr
    found = other.rows()
    assert [row["error_code"] for row in found.values() if row["status"] == rows.FAILED] == ["uri-refused"] * 5
    assert [photo_id for photo_id, row in found.items() if row["status"] == rows.RESTORED] == [
        f"{archive.source}/1/001.jpg"
    ]


def test_clusters_load_safetensors_alone(cluster: Nodes, archive: Archive, tmp_path: Path) -> None:
    model = put(tmp_path / "model", {"sdxl.safetensors": SDXL, "supir.safetensors": SUPIR})
    (model / "supir.safetensors").unlink()
    torch.save(SUPIR, model / "SUPIR-v0Q.ckpt")
    other = archive._replace(model=str(model), output=archive.output + "-pickled")
    done = said("submit", "--address", cluster.api, *other.words("--workers", 1, "--gpus-per-worker", 1), "--follow")
    assert done.returncode == 2 and "error[weights-pickle]" in done.stderr, done.stderr


def test_a_cluster_with_a_token_answers_nobody_else(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    with nodes(tmp_path / "nodes", token) as guarded:
        words = ("jobs", "list", "--address", guarded.api)
        for other in ({}, {**token, "RAY_AUTH_TOKEN": secrets.token_hex(16)}):
            done = said(*words, **other)
            assert done.returncode == 2 and done.stderr.startswith("error[cluster]"), done.stderr
            assert "hint: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN with the cluster's token" in done.stderr
        assert said(*words, **token).returncode == 0
