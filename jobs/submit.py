"""`supir submit`: a run on a cluster through Ray's Jobs API. The only module of the command line that knows Ray.

What is submitted is the command line of `supir run`. The same run is found again by the digest of that line, so that it
is never submitted twice while it goes on. No credential is ever part of it: nodes have roles, or environment variables.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from jobs import secrecy, travel
from jobs.run import SUBMISSION_VARIABLE
from supir_core import __version__
from supir_core.errors import ClusterError, InputError

ADDRESS_VARIABLE = "SUPIR_ADDRESS"
RUN_KEY, OUTPUT_KEY, VERSION_KEY = "supir.run", "supir.output", "supir.version"  # of a job's metadata
GOING_ON = ("PENDING", "RUNNING")
NOT_YET = "No available agent"  # says a head that has just been started
HEAD_WAIT_S = 120.0
PLACES = ("--input", "--output", "--model")


@dataclass(frozen=True)
class Job:
    """A submitted run, as the cluster knows it."""

    id: str
    state: str  # PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED
    output: str
    run_digest: str
    begun_s: float | None  # since the epoch
    ended_s: float | None
    exit_code: int | None
    message: str

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self.state in GOING_ON


class Cluster:
    """The Jobs API of a Ray cluster.

    Args:
        address: such as http://head:8265; `$SUPIR_ADDRESS` if not given.

    Raises:
        InputError: no address.
        ClusterError: nobody answers there, or we may not speak to it.
    """

    def __init__(self, address: str | None):
        found = address or os.environ.get(ADDRESS_VARIABLE)
        if not found or "://" not in found:
            raise InputError(
                "no address of a cluster's Jobs API" if not found else f"{found} is no address of a Jobs API",
                hint=f"--address http://HEAD:8265, or {ADDRESS_VARIABLE}",
                code="address",
            )
        self.address = found.rstrip("/")
        for name in ("dashboard.modules.dashboard_sdk", "_private.runtime_env.packaging"):  # they tell of every upload
            logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
        with self._explained():
            os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # Ray prefers RAY_ADDRESS to what it is given
            self._client = JobSubmissionClient(self.address)

    def jobs(self) -> list[Job]:
        """Submitted runs, the newest first; jobs of other programs are passed over."""
        with self._explained():
            found = [_job(details) for details in self._client.list_jobs() if RUN_KEY in (details.metadata or {})]
        return sorted(found, key=lambda job: job.begun_s or 0.0, reverse=True)

    def job(self, job_id: str) -> Job:
        """One of them.

        Raises:
            InputError: there is none of this id (`no-job`).
        """
        for job in self.jobs():
            if job.id == job_id:
                return job
        raise InputError(f"there is no job {job_id} at {self.address}", hint="supir jobs list", code="no-job")

    def log(self, job_id: str) -> str:
        """What its driver has said so far."""
        with self._explained():
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str) -> None:
        """End it at once."""
        with self._explained():
            self._client.stop_job(job_id)

    def submit(self, words: Sequence[str], output: str, package: bool) -> tuple[Job, bool]:
        """Have the cluster run `supir run` with some words; the job, and whether it has been submitted just now.

        Args:
            words: the options of `supir run`; those that name small files of this machine bring these along.
            output: of the run.
            package: whether the package of this checkout travels, or is in the image.

        Raises:
            InputError: options that cannot travel.
        """
        check_places(words)
        secrecy.check(words)
        with tempfile.TemporaryDirectory(prefix="supir-") as temporary:
            folder = Path(temporary) / "package"
            folder.mkdir()
            sent = _with_files(words, folder)
            digest = hashlib.sha256(json.dumps(sent).encode()).hexdigest()[:12]
            going_on = [job for job in self.jobs() if job.run_digest == digest and job.goes_on]
            if going_on:
                return going_on[0], False
            if package:
                travel.unpack_wheel(folder)
            program = ["python", "-m", "jobs"] if package else ["supir"]
            entrypoint = "exec " + shlex.join([*program, "run", *sent, "--address", "auto"])
            return self._submitted(entrypoint, folder, digest, output)

    def _submitted(self, entrypoint: str, folder: Path, digest: str, output: str) -> tuple[Job, bool]:
        number = 1 + sum(job.run_digest == digest for job in self.jobs())
        end = time.monotonic() + HEAD_WAIT_S
        while True:
            job_id = f"supir-{_readable(output)}-{digest[:8]}-{number}"
            environment: dict[str, Any] = {"env_vars": {SUBMISSION_VARIABLE: job_id}}
            if any(folder.iterdir()):
                environment["working_dir"] = str(folder)
            try:
                with self._explained(), _quiet_stdout():
                    self._client.submit_job(
                        entrypoint=entrypoint,
                        submission_id=job_id,
                        runtime_env=environment,
                        metadata={RUN_KEY: digest, OUTPUT_KEY: output, VERSION_KEY: __version__},
                    )
                return self.job(job_id), True
            except ClusterError as error:
                same = [job for job in self.jobs() if job.run_digest == digest]
                for job in same:
                    if job.goes_on:  # somebody has submitted it at this moment
                        return job, False
                taken = any(job.id == job_id for job in same)
                if time.monotonic() > end or not (taken or NOT_YET in str(error)):
                    raise
                number += taken
                time.sleep(1)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what Ray's client raises into one line with a way out."""
        try:
            yield
        except (AuthenticationError, ConnectionError, RuntimeError, OSError, ValueError) as error:
            text = " ".join(str(error).split())
            denied = re.search(r"\b(401|403)\b|token", text, re.IGNORECASE)
            hint = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN with the cluster's token" if denied else "is the head up?"
            raise ClusterError(f"the Jobs API at {self.address}: {text[:300]}", hint=hint) from error


def check_places(words: Sequence[str]) -> None:
    """Refuse places that nodes cannot find.

    Raises:
        InputError: a relative path (`local-path`).
    """
    for option, value in pairwise(words):
        known = "://" in value or value.startswith("/") or (option == "--model" and value == "demo")
        if option in PLACES and not known:
            raise InputError(
                f"{option} {value} is a path of this machine",
                hint="give a URI, or an absolute path that all nodes share",
                code="local-path",
            )


def _with_files(words: Sequence[str], folder: Path) -> list[str]:
    """The words, with files of this machine replaced by their copies in the folder."""
    sent = list(words)
    for n, option in enumerate(words[:-1]):
        named = words[n + 1]
        if (option == "--only" or (option == "--preset" and named.endswith(".toml"))) and "://" not in named:
            sent[n + 1] = travel.take_along(named, folder)
    return sent


def _readable(output: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", output.rstrip("/").rpartition("/")[2].lower()).strip("-")
    return name[:40] or "run"


def _job(details: Any) -> Job:
    state = getattr(details.status, "value", details.status)
    return Job(
        id=details.submission_id,
        state=str(state),
        output=details.metadata.get(OUTPUT_KEY, ""),
        run_digest=details.metadata[RUN_KEY],
        begun_s=details.start_time / 1000 if details.start_time else None,
        ended_s=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        message=details.message or "",
    )


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """What Ray prints belongs to stderr: stdout is for --json."""
    before, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = before


def wait_until_ended(cluster: Cluster, job_id: str, limit_s: float, every_s: float = 0.5) -> Job:
    """The job, when it has ended or the time is up."""
    end = time.monotonic() + limit_s
    while (job := cluster.job(job_id)).goes_on and time.monotonic() < end:
        time.sleep(every_s)
    return job
