"""Speed and memory of `supir run` on the demo photos, whole process tree.

    python -m tests.bench.demo [--photos DIR] [-- more arguments of supir run]

Prints a table and, as the last line, one JSON object. Memory is the proportional set size (pages shared by processes
count once), summed over the driver, Ray and the workers, sampled five times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="examples/photos")
    parser.add_argument("more", nargs="*")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as output:
        figures = measure(["--input", arguments.photos, "--output", output, *arguments.more])
    figures |= {"cores": os.cpu_count(), "machine": platform.machine(), "date": time.strftime("%Y-%m-%d")}
    for name, value in figures.items():
        print(f"{name:24s} {value}")
    print(json.dumps(figures))


def measure(arguments: list[str]) -> dict[str, object]:
    """Run `supir run` and watch it."""
    script = "from jobs.cli import main; main()"
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", script, "run", "--json", "--progress", "none", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak: dict[str, float] = {}
    total = 0.0
    while process.poll() is None:
        memory = _memory_mb(process.pid)
        total = max(total, sum(memory.values()))
        for name, value in memory.items():
            peak[name] = max(peak.get(name, 0.0), value)
        time.sleep(0.2)
    seconds = time.monotonic() - start
    stdout, stderr = process.communicate()
    if process.returncode not in (0, 3):
        sys.exit(f"supir run failed with {process.returncode}:\n{stderr}")
    facts = json.loads(stdout)
    return {
        "photos": facts["todo"],
        "restored": facts["restored"],
        "failed": facts["failed"],
        "megapixels": round(facts["megapixels_total"], 3),
        "seconds": round(seconds, 1),
        "run_seconds": facts["seconds"],
        "photos_per_s": round(facts["todo"] / facts["seconds"], 3),
        "peak_memory_mb": round(total),
        **{f"peak_{name}_mb": round(value) for name, value in sorted(peak.items())},
    }


def _memory_mb(root: int) -> dict[str, float]:
    """Proportional set size of a process tree by kind of process."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has just ended
    memory: dict[str, float] = {}
    for pid in parents:
        ancestor = pid
        while ancestor not in (root, 0):
            ancestor = parents.get(ancestor, 0)
        if ancestor == root:
            kind = "driver" if pid == root else _kind(pid)
            memory[kind] = memory.get(kind, 0.0) + _pss_mb(pid)
    return memory


def _kind(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return "ray"
    return "restore_worker" if "RestoreStage" in command else "ray"


def _pss_mb(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass  # it has just ended
    return 0.0


if __name__ == "__main__":
    main()
