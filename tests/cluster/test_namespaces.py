"""Nodes that share no memory, no paths and no loopback: results come only through the store."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline import rows
from pipeline.storage import Store
from tests.cluster.archive import job, make, said, submit, until
from tests.cluster.namespaces import forwarded, network
from tests.cluster.nodes import nodes
from tests.s3.gateway import Gateway

pytestmark = pytest.mark.slow  # minutes, and several machines' worth of processes

PHOTOS = 24
STEPS = 20  # the first machine is not done before the second has loaded its networks


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
            until("a run", lambda: job(cluster.api, made["id"])["run"])
            cluster.add(1, two.address, two.before)  # it joins late
            done = said("jobs", "logs", made["id"], "-f", "--address", cluster.api)
        assert done.returncode == 3, done.stderr  # one photo is damaged
        found = archive.rows()
        assert {row["status"] for row in found.values()} == {rows.RESTORED, rows.FAILED} and len(found) == PHOTOS
        assert {row["worker"].partition(":")[0] for row in found.values()} == {one.name, two.name}
        output = Store(archive.output)
        for row in found.values():
            assert row["status"] == rows.FAILED or output.size(row["image"]) == row["bytes"]
        assert said("index", "verify", archive.output).returncode == 0
        said("index", archive.output, "--sql", "select worker, status, count(*) photos from photos group by all")


def alone(before: list[str]) -> str:
    """What a machine sees of networks and folders."""
    command = [*before, "sh", "-c", "ip -brief address; hostname; ls /tmp /dev/shm"]
    environment = {**os.environ, "HOME": "/tmp/home"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
