"""`supir status`: where an output's runs stand, what they use and what they cost."""

from __future__ import annotations

import json
import sys
from typing import Any

from jobs.progress import counted
from pipeline import progress, status
from pipeline.status import RunStatus
from pipeline.storage import Store


def show(output: str, gpu_hour_price: float | None, as_json: bool) -> None:
    """Print the newest run of every look, and what all runs together have cost."""
    runs = status.read(Store(output))
    hours = sum(run.gpu_hours for run in runs)
    newest = status.newest(runs)
    if as_json:
        facts = {"runs": [facts_of(run, gpu_hour_price) for run in newest], "gpu_hours": round(hours, 3)}
        sys.stdout.write(json.dumps(facts | _cost(hours, gpu_hour_price), ensure_ascii=False) + "\n")
        return
    for run in newest:
        sys.stdout.write(text(run, gpu_hour_price))
    if len(runs) > len(newest):
        sys.stdout.write(f"all {len(runs)} runs of this output: {_hours(hours, gpu_hour_price)}\n")


def facts_of(run: RunStatus, price: float | None) -> dict[str, Any]:
    """One run for JSON."""
    look, shard = run.look
    return {
        "run": run.progress.run,
        "state": run.state,
        "submission": run.asked.get("submission"),
        "preset": look,
        "shard": shard or None,
        "updated": run.progress.updated,
        "todo": run.progress.todo,
        "restored": run.progress.restored,
        "failed": run.progress.failed,
        "skipped": run.progress.skipped,
        "left": run.left,
        "done_before": run.asked.get("done_before"),
        "failed_before": run.asked.get("failed_before"),
        "megapixels": round(run.progress.megapixels, 3),
        "megapixels_per_s": round(run.megapixels_per_s, 4),
        "eta_s": run.eta_s and round(run.eta_s),
        "gpus": run.progress.gpus,
        "gpus_busy": run.gpus_busy and round(run.gpus_busy, 2),
        "gpu_hours": round(run.gpu_hours, 4),
        "stages": {name: round(seconds, 4) for name, seconds in run.stages()},
        **_cost(run.gpu_hours, price),
    }


def text(run: RunStatus, price: float | None) -> str:
    """One run as lines of text."""
    look, shard = run.look
    state = {
        progress.RUNNING: f"running, heard of {run.silent_s:.0f} s ago",
        status.LOST: f"lost: not heard of for {duration(run.silent_s)}; the same command goes on",
        progress.INTERRUPTED: "interrupted; the same command goes on",
        progress.BROKEN: "ended by an error; the same command goes on",
    }.get(run.state, run.state)
    lines = [f"run {run.progress.run}, preset {look}{f', shard {shard}' if shard else ''}: {state}"]
    if run.asked.get("submission"):
        lines.append(f"  job     {run.asked['submission']}")
    lines.append(f"  photos  {counts(run)}{_before(run)}")
    lines.append(f"  speed   {speed(run)}")
    if run.progress.gpus or run.gpus_busy:
        busy = "" if run.gpus_busy is None else f"{run.gpus_busy:.1f} busy of "
        lines.append(f"  GPUs    {busy}{run.progress.gpus:g}")
        lines.append(f"  cost    {_hours(run.gpu_hours, price)}")
    stages = ", ".join(f"{name} {seconds:.3g}" for name, seconds in run.stages())
    lines.append(f"  stages  seconds per photo: {stages or 'none yet'}")
    return "\n".join(lines) + "\n"


def counts(run: RunStatus) -> str:
    """Done, failed, left, and skipped, if any are."""
    return counted(run.progress.restored, run.progress.failed, run.progress.skipped, run.left)


def speed(run: RunStatus) -> str:
    """Megapixels per second, and when it will be over."""
    left = "" if run.eta_s is None or not run.left else f", about {duration(run.eta_s)} left"
    return f"{run.megapixels_per_s:.3g} MP/s{left}"


def duration(seconds: float) -> str:
    """A number with the unit that suits it."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _before(run: RunStatus) -> str:
    done, failed = run.asked.get("done_before") or 0, run.asked.get("failed_before") or 0
    return f"; before this run {done} done, {failed} failed" if done or failed else ""


def _cost(hours: float, price: float | None) -> dict[str, float]:
    return {} if price is None else {"cost": round(hours * price, 2)}


def _hours(hours: float, price: float | None) -> str:
    money = "" if price is None else f", {hours * price:.2f} at {price:g} an hour"
    return f"{hours:.2f} GPU hours{money}"
