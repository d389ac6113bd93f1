"""Nodes that share no memory, no paths and no loopback: results come only through the store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline import rows
from pipeline.storage import Store
from tests.cluster.archive import make, submit, until
from tests.cluster.namespaces import forwarded, network
from tests.cluster.nodes import nodes
from tests.jobs.command import supir
from tests.s3.gateway import Gateway

pytestmark = pytest.mark.slow  # minutes, and several machines' worth of processes

PHOTOS = 16
STEPS = 6


def test_machines_that_share_nothing_restore_an_archive_together(
    s3: Gateway, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with network(3) as net, forwarded(net.address, int(s3.endpoint.rpartition(":")[2])) as store:
        head, one, two = net.machines
        monkeypatch.setenv("no_proxy", f"{net.address},{head.address},127.0.0.1,localhost")
        assert alone(one.before) != alone(two.before)
        archive = make(tmp_path, f"s3://{bucket}", PHOTOS)
        environment = {**s3.environment(), "AWS_ENDPOINT_URL": f"http://{store}", "no_proxy": os.environ["no_proxy"]}
        with nodes(tmp_path / "nodes", environment, host=head.address, before=head.before) as cluster:
            cluster.add(1, one.address, one.before)
            words = archive.words("--workers", 2, "--gpus-per-worker", 1, steps=STEPS)
            made = submit(cluster.api, *words)
            until("rows", archive.rows)
            cluster.add(1, two.address, two.before)  # it joins late
            done = supir("jobs", "logs", made["id"], "-f", "--address", cluster.api)
        assert done.returncode == 3, done.stderr  # one photo is damaged
        found = archive.rows()
        assert {row["status"] for row in found.values()} == {rows.RESTORED, rows.FAILED} and len(found) == PHOTOS
        assert {row["worker"].partition(":")[0] for row in found.values()} == {one.name, two.name}
        output = Store(archive.output)
        for row in found.values():
            assert row["status"] == rows.FAILED or output.size(row["image"]) == row["bytes"]
        assert supir("index", "verify", archive.output).returncode == 0


def alone(before: list[str]) -> str:
    """What a machine sees of networks and folders."""
    command = [*before, "sh", "-c", "ip -brief address; hostname; ls /tmp /dev/shm"]
    environment = {**os.environ, "HOME": "/tmp/home"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
