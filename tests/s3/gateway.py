"""A real S3 store on this machine: Ceph's RADOS Gateway over one monitor and one disk, on loopback alone.

    python -m tests.s3.gateway DIR

starts one in a folder and prints what a client needs, until it is interrupted. The processes are children of whoever
starts them, and end with it. Needs Debian's packages radosgw, ceph-mon, ceph-osd and ceph-common.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "ceph-authtool", "monmaptool")
PATIENCE_S = 180.0
DISK_BYTES = 8 * 2**30  # a sparse file

CONFIG = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port}/0]
public_network = 127.0.0.0/8
ms_bind_msgr1 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
keyring = {folder}/keyring
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
crash_dir = {folder}/crash
mon_data = {folder}/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_data = {folder}/osd
osd_objectstore = bluestore
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_memory_target = 939524096
bluestore_block_size = {disk_bytes}
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size = 64
[mon.a]
mon_addr = 127.0.0.1:{monitor_port}
"""


class Account(NamedTuple):
    """Who a client says it is."""

    key: str
    secret: str


class Gateway(NamedTuple):
    """A store that is up."""

    endpoint: str
    admin: Account
    config: Path

    def environment(self, account: Account | None = None) -> dict[str, str]:
        """Variables with which S3 clients find the store; as the admin if no account is given."""
        who = account or self.admin
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": who.key,
            "AWS_SECRET_ACCESS_KEY": who.secret,
            "AWS_DEFAULT_REGION": "default",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # which this version of Ceph needs
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

    def new_account(self, name: str) -> Account:
        """Another user of the store."""
        account = Account(f"{name}-key", f"{name}-secret-{uuid.uuid4().hex}")
        _run(
            "radosgw-admin", "-c", self.config, "-n", "client.admin", "user", "create", "--uid", name,
            "--display-name", name, "--access-key", account.key, "--secret-key", account.secret,
        )  # fmt: skip
        return account


def missing() -> list[str]:
    """Programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    """A new store in a folder, for as long as the context lasts."""
    for name in ("mon", "osd", "log", "run"):
        (folder / name).mkdir(parents=True)
    port, monitor_port = _free_port(), _free_port()
    config, keyring, fsid = folder / "ceph.conf", folder / "keyring", str(uuid.uuid4())
    values = {"folder": folder, "port": port, "monitor_port": monitor_port, "fsid": fsid, "disk_bytes": DISK_BYTES}
    config.write_text(CONFIG.format(**values))
    _run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "client.rgw", "osd.0"):
        caps = [word for service in ("mon", "osd", "mgr") for word in ("--cap", service, "allow *")]
        _run("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
    monmap = folder / "monmap"
    _run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{monitor_port}]", "--fsid", fsid, monmap)
    _run("ceph-mon", "-c", config, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
    with ExitStack() as processes:
        processes.enter_context(_process(folder, "ceph-mon", "-f", "-c", config, "-i", "a"))
        disk = str(uuid.uuid4())
        _run("ceph", "-c", config, "osd", "new", disk)
        _run("ceph-osd", "-c", config, "-i", "0", "--mkfs", "--osd-uuid", disk)
        processes.enter_context(_process(folder, "ceph-osd", "-f", "-c", config, "-i", "0"))
        processes.enter_context(_process(folder, "radosgw", "-f", "-c", config, "-n", "client.rgw"))
        up = Gateway(f"http://127.0.0.1:{port}", Account("", ""), config)
        _wait_for(up.endpoint, folder)
        yield up._replace(admin=up.new_account("admin"))


@contextmanager
def _process(folder: Path, program: str, *words: object) -> Iterator[None]:
    with (folder / "log" / f"{program}.out").open("wb") as out:
        process = subprocess.Popen([program, *map(str, words)], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def _run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{words[0]} failed with {done.returncode}:\n{done.stderr}{done.stdout}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(endpoint: str, folder: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(endpoint, timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end:
                raise RuntimeError(f"the store does not answer; its logs are in {folder / 'log'}") from error
        time.sleep(0.3)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", metavar="DIR", nargs="?", help="default: one that is removed at the end")
    with tempfile.TemporaryDirectory() as elsewhere:
        folder = Path(options.parse_args().folder or elsewhere).resolve() / uuid.uuid4().hex
        with gateway(folder) as store:
            for name, value in store.environment().items():
                print(f"export {name}={value}", flush=True)
            while os.getppid() != 1:  # ends with whoever started it
                time.sleep(1)


if __name__ == "__main__":
    main()
