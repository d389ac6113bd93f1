"""A real Prometheus over the nodes of a cluster, on loopback, for as long as a context lasts."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster.nodes import PATIENCE_S, free_port
from tests.infra.templates import INFRA

CONFIG = """
global: {{scrape_interval: 2s, evaluation_interval: 5s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: ray
    file_sd_configs: [{{files: [{targets}], refresh_interval: 2s}}]
"""


class Prometheus(NamedTuple):
    """One that is up."""

    address: str

    def ask(self, path: str, **parameters: object) -> Any:
        """What its API answers."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def names(self) -> set[str]:
        """Of all metrics that it has scraped."""
        return set(self.ask("label/__name__/values"))

    def over_time(self, query: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """The series of a query."""
        found: list[dict[str, Any]] = self.ask("query_range", query=query, start=start, end=end, step=step_s)["result"]
        return found


def missing() -> bool:
    """Whether it is not installed."""
    return shutil.which("prometheus") is None


@contextmanager
def prometheus(folder: Path, targets: str) -> Iterator[Prometheus]:
    """Scrapes what a file names that Ray keeps up to date; with the project's rules.

    Args:
        folder: a new one.
        targets: the file, in a head's temporary folder.
    """
    folder.mkdir(parents=True)
    config = folder / "prometheus.yaml"
    config.write_text(CONFIG.format(rules=INFRA / "monitoring" / "rules.yaml", targets=targets), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                    break
            except OSError as error:
                if time.monotonic() > end or process.poll() is not None:
                    raise RuntimeError((folder / "log").read_text(encoding="utf-8")) from error
            time.sleep(0.2)
        yield Prometheus(f"http://{address}")
    finally:
        process.kill()
        process.wait()
