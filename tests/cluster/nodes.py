"""Ray nodes as processes of their own, as `ray start` makes them on machines; each ends with its context."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.processes import descendants

PATIENCE_S = 180.0
STORE_BYTES = 100 * 2**20
BIN = Path(sys.executable).parent
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
}


def free_port(host: str = "127.0.0.1") -> int:
    """That nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class Node:
    """One `ray start`."""

    process: subprocess.Popen[bytes]
    log: Path

    def is_up(self) -> bool:
        """Whether it has joined its cluster."""
        return "Ray runtime started" in self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """As a machine that loses its power: nobody says goodbye."""
        for pid in [*reversed(descendants(self.process.pid)), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Nodes:
    """A cluster: a head for drivers alone, as in the templates, and workers that come and go.

    Args:
        folder: for logs and what nodes keep for themselves.
        environment: of every node.
    """

    folder: Path
    environment: dict[str, str]
    host: str = "127.0.0.1"
    before: Sequence[str] = ()  # words before the head's command
    port: int = 0
    api_port: int = 0
    metrics_port: int = 0
    stack: ExitStack = field(default_factory=ExitStack)
    count: int = 0
    running: list[Node] = field(default_factory=list)

    @property
    def api(self) -> str:
        """The address of the Jobs API."""
        return f"http://{self.host}:{self.api_port}"

    def start_head(self) -> Node:
        """The head; its Jobs API answers when this returns."""
        self.port, self.api_port, self.metrics_port = free_port(), free_port(), free_port()
        self.stack.callback(shutil.rmtree, self.temporary, ignore_errors=True)
        words = [
            "--head", f"--port={self.port}", f"--node-ip-address={self.host}", f"--dashboard-host={self.host}",
            f"--dashboard-port={self.api_port}", "--include-dashboard=true", "--num-cpus=0", "--num-gpus=0",
            f"--metrics-export-port={self.metrics_port}",
            f"--ray-client-server-port={free_port()}",
        ]  # fmt: skip
        node = self._start("head", words, self.before, {})
        self._wait_for_api(node)
        return node

    def add(
        self,
        gpus: int = 1,
        host: str | None = None,
        before: Sequence[str] = (),
        **environment: str,
    ) -> Node:
        """One more node; it joins a while after this returns.

        Args:
            gpus: numbers to Ray's scheduler.
            host: its address.
            before: words before its command, such as those that enter a network namespace.
            environment: more variables.
        """
        self.count += 1
        words = [f"--address={self.host}:{self.port}", f"--num-gpus={gpus}", "--num-cpus=2"]
        words += [f"--node-ip-address={host or self.host}"]
        return self._start(f"node-{self.count}", words, before, environment)

    def restart(self) -> Node:
        """Kill the head, and all nodes with it; another head in its place, which knows nothing of the first."""
        for node in self.running:
            node.kill()
        return self.start_head()

    def homes(self) -> list[Path]:
        """What nodes keep for themselves."""
        return sorted(path for path in self.folder.iterdir() if (path / "models").is_dir())

    @property
    def temporary(self) -> str:
        """What nodes keep for their sessions, each in a folder of its own; short, as sockets lie below it."""
        return f"/tmp/supir-ray-{os.getpid()}-{self.port}"

    @property
    def targets(self) -> Path:
        """The file in which Ray tells Prometheus where metrics are."""
        return Path(self.temporary) / "head" / "prom_metrics_service_discovery.json"

    def _start(self, name: str, words: Sequence[str], before: Sequence[str], environment: dict[str, str]) -> Node:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        log = home / "log"
        variables = {
            **os.environ, **ENVIRONMENT, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home),
            "SUPIR_MODEL_CACHE": str(home / "models"), **self.environment, **environment,
        }  # fmt: skip
        variables.pop("RAY_ADDRESS", None)
        command = [*before, str(BIN / "ray"), "start", "--block", f"--object-store-memory={STORE_BYTES}", *words]
        # Both differ on one machine, and need not on several: in a folder that nodes share, each of them unpacks the
        # package anew, under the feet of the others' workers.
        command += [f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={self.temporary}/{name}"]
        with log.open("ab") as out:
            process = subprocess.Popen(
                command, cwd=home, env=variables, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
        node = Node(process, log)
        self.stack.callback(node.kill)
        self.running.append(node)
        return node

    def _wait_for_api(self, node: Node) -> None:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.api}/api/jobs/", timeout=5):
                    return
            except OSError as error:
                if getattr(error, "code", None) == 401:  # it is up, and asks for a token
                    return
                if time.monotonic() > end or node.process.poll() is not None:
                    raise RuntimeError(f"no head: {node.log.read_text(encoding='utf-8')}") from error
            time.sleep(0.5)


@contextmanager
def nodes(folder: Path, environment: dict[str, str] | None = None, **more: object) -> Iterator[Nodes]:
    """A cluster with a head, for as long as the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Nodes(folder, environment or {}, **more)  # type: ignore[arg-type]
    with cluster.stack:
        cluster.start_head()
        yield cluster
