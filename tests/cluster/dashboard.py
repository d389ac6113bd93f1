"""The dashboard of infra/monitoring as a picture, from a real run's metrics.

    python -m tests.cluster.dashboard [OUT.png]

starts a Ray cluster of three processes, a real Prometheus that scrapes its nodes, and a run on two pretended GPUs; asks
every panel's own queries, and draws the answers. Needs Debian's package prometheus. Takes about four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.cluster.archive import make
from tests.cluster.nodes import nodes
from tests.cluster.prometheus import Prometheus, prometheus
from tests.conftest import ENVIRONMENT
from tests.infra.templates import INFRA
from tests.jobs.command import supir

STEP_S = 5.0
INTERVAL = "30s"  # of rates; a dashboard over hours has a longer one
UNITS = {"percentunit": "share", "s": "seconds", "short": ""}


def series(found: dict[str, Any], legend: str) -> tuple[str, list[float], list[float]]:
    """Name, times and values of one answer."""
    name = legend
    for label, value in found["metric"].items():
        name = name.replace("{{" + label + "}}", value)
    points = [(float(at), float(value)) for at, value in found["values"]]
    return name, [at for at, _ in points], [value for _, value in points]


def draw(board: Any, source: Prometheus, start: float, end: float, out: Path) -> list[str]:
    """Draw every panel; the titles of those that have nothing to show."""
    panels, empty = board["panels"], []
    figure, axes = plt.subplots((len(panels) + 1) // 2, 2, figsize=(13, 2.6 * ((len(panels) + 1) // 2)), dpi=100)
    for axis, panel in zip(axes.flat, panels, strict=False):
        shown = 0
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", INTERVAL).replace("$run", ".*")
            for found in source.over_time(query, start, end, STEP_S):
                name, at, values = series(found, target["legendFormat"])
                axis.plot([one - start for one in at], values, label=name or "none", linewidth=1.5)
                shown += 1
        if not shown:
            empty.append(panel["title"])
        axis.set_title(panel["title"], fontsize=10, loc="left")
        axis.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]], fontsize=8)
        axis.set_xlim(0, end - start)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if shown:
            axis.legend(fontsize=7, loc="best")
    figure.suptitle(f"{board['title']}: {time.strftime('%Y-%m-%d')}, seconds since the run was submitted", fontsize=11)
    figure.tight_layout()
    figure.savefig(out)
    return empty


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("out", type=Path, nargs="?", default=INFRA / "monitoring" / "dashboard.png")
    options.add_argument("--photos", type=int, default=60)
    options.add_argument("--steps", type=int, default=40)
    asked = options.parse_args()
    os.environ.update(ENVIRONMENT)
    board = json.loads((INFRA / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="dashboard-") as temporary:
        folder = Path(temporary)
        (folder / "archive").mkdir()
        archive = make(folder, str(folder / "archive"), asked.photos, bad=4)
        archive = archive._replace(model=str(folder / "packed"))
        with nodes(folder / "nodes") as cluster:
            cluster.add(gpus=1)
            cluster.add(gpus=1)
            with prometheus(folder / "prometheus", str(cluster.targets)) as source:
                start = time.time()
                words = archive.words("--workers", 2, "--gpus-per-worker", 1, steps=asked.steps)
                done = supir("submit", "--address", cluster.api, *words, "--follow")
                print(done.stderr[-2000:], file=sys.stderr)
                time.sleep(15)  # Ray's nodes tell what they have counted every few seconds
                empty = draw(board, source, start, time.time(), asked.out)
                names = sorted(name for name in source.names() if "supir" in name)
    print(f"{asked.out}: {asked.out.stat().st_size} bytes; nothing to show: {', '.join(empty) or 'none'}")
    print("\n".join(names))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
