"""What happens to submitted runs: following them, `supir jobs list | status | logs | stop`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import Any

from jobs import exits
from jobs import status as shown
from jobs.following import Following
from jobs.index import show_rows
from jobs.submit import Cluster, Job, wait_until_ended
from pipeline import progress, status
from pipeline.storage import Store
from supir_core.errors import InputError

STOP_WAIT_S = 60.0
EVERY_S = 1.0
EXIT_OF = {"SUCCEEDED": exits.DONE, "STOPPED": exits.INTERRUPTED}


def submit(words: list[str], output: str, address: str | None, package: bool, follow: bool, as_json: bool) -> int:
    """Submit a run, or find the one that goes on already; the exit code."""
    cluster = Cluster(address)
    job, new = cluster.submit(words, output, package)
    if as_json:
        sys.stdout.write(json.dumps({"id": job.id, "new": new, "state": job.state, "output": output}) + "\n")
        sys.stdout.flush()
    else:
        sys.stdout.write(f"{job.id}\n")
        sys.stdout.flush()
        what = "submitted" if new else "the same run goes on already"
        sys.stderr.write(f"{what}; supir jobs status {job.id}, supir status {output}\n")
    return follow_to_end(cluster, job) if follow else exits.DONE


def follow_to_end(cluster: Cluster, job: Job) -> int:
    """Show a job's log and the run's progress until it ends; Ctrl-C leaves it running. The exit code."""
    run: status.RunStatus | None = None
    with Following(job.id) as shows:
        try:
            while True:
                job = cluster.job(job.id)
                shows.log(cluster.log(job.id))
                if not job.goes_on:
                    break
                run = _run_of(job, run)
                shows.progress(run)
                time.sleep(EVERY_S)
        except KeyboardInterrupt:
            shows.say(
                f"{job.id} goes on; supir jobs logs {job.id} -f follows it again, supir jobs stop {job.id} ends it"
            )
            return exits.INTERRUPTED
        shows.progress(_run_of(job, run), last=True)
    sys.stderr.write(f"{job.id}: {_ended(job)}\n")
    return _exit_code(job)


def list_jobs(address: str | None, as_json: bool) -> None:
    """Print the submitted runs of a cluster."""
    rows = [
        {
            "id": job.id,
            "state": job.state,
            "begun": _utc(job.begun_s),
            "ended": _utc(job.ended_s),
            "exit_code": job.exit_code,
            "output": job.output,
        }
        for job in Cluster(address).jobs()
    ]
    show_rows(["id", "state", "begun", "ended", "exit_code", "output"], rows, as_json)


def show(job_id: str, address: str | None, price: float | None, as_json: bool) -> int:
    """Print what the cluster says of a job, and what its output says of its run."""
    job = Cluster(address).job(job_id)
    run = _run_of(job)
    if as_json:
        facts: dict[str, Any] = {**asdict(job), "run": run and shown.facts_of(run, price)}
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return exits.DONE
    sys.stdout.write(f"{job.id}: {_ended(job) if not job.goes_on else job.state.lower()}\n")
    sys.stdout.write(shown.text(run, price) if run else "  its run has not begun yet\n")
    return exits.DONE


def logs(job_id: str, address: str | None, follow: bool) -> int:
    """Print a job's log, to its end if it is followed."""
    cluster = Cluster(address)
    job = cluster.job(job_id)
    if follow:
        return follow_to_end(cluster, job)
    sys.stdout.write(cluster.log(job_id))
    return exits.DONE


def stop(job_id: str, address: str | None, drain: bool) -> int:
    """End a job: at once, or when the photos are finished that it has begun."""
    cluster = Cluster(address)
    job = cluster.job(job_id)
    if not job.goes_on:
        sys.stderr.write(f"{job.id}: {_ended(job)}\n")
        return exits.DONE
    if drain:
        run = _run_of(job)
        if run is None:
            raise InputError(
                f"{job_id} has not begun its run yet, so there is nothing to finish",
                hint="without --drain it is ended at once",
                code="no-runs",
            )
        progress.ask_to_end(Store(job.output), run.progress.run)
        sys.stderr.write(f"{job.id}: begins no more photos within {progress.EVERY_S:g} s, and ends when all are done\n")
        return exits.DONE
    cluster.stop(job_id)
    job = wait_until_ended(cluster, job_id, STOP_WAIT_S)
    sys.stderr.write(f"{job.id}: {_ended(job) if not job.goes_on else 'is being stopped'}\n")
    return exits.DONE


def _run_of(job: Job, before: status.RunStatus | None = None) -> status.RunStatus | None:
    """What a job's output says of its run now; quicker if it has been found before."""
    store = Store(job.output)
    return (
        status.read_one(store, before.progress.run)
        if before
        else status.of_submission(store, job.id, job.begun_s or 0.0)
    )


def _exit_code(job: Job) -> int:
    """As `supir run` would have exited here."""
    return EXIT_OF.get(job.state, job.exit_code or exits.BUG) if job.exit_code is None else job.exit_code


def _ended(job: Job) -> str:
    said = {
        exits.DONE: "all done",
        exits.WRONG_INPUT: "wrong input; its log says what",
        exits.SOME_FAILED: "finished, with failed photos",
        exits.INTERRUPTED: "interrupted, with photos left; submitted again it goes on",
    }
    if job.state == "STOPPED":
        return "stopped; submitted again it goes on"
    if job.exit_code in said:
        return said[job.exit_code]
    reason = job.message.strip().partition("\n")[0].partition(", last available logs")[0]  # which are in its log
    return f"failed: {reason or 'no reason given'}; submitted again it goes on"


def _utc(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
