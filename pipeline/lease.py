"""One run at a time for a look and shard: a small object in the output says who is running, and is renewed meanwhile.

Whoever finds a lease that is not renewed takes it over; on the machine of a run that has died, at once.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.settings import RunSettings, parse_shard
from pipeline.storage import Store
from supir_core.errors import InputError, StorageError

log = logging.getLogger(__name__)

FOLDER = "runs/leases"
RENEW_S = 20.0
STALE_S = 120.0  # without being renewed
TRIES = 20  # of writing it while others do


class Holder(NamedTuple):
    """Who is running."""

    run: str
    host: str
    pid: int
    machine: str  # tells machines and containers apart, and their lives between two starts
    process: str  # tells processes of one number apart
    since: str
    renewed: str
    token: str


@contextmanager
def held(
    store: Store,
    settings: RunSettings,
    interrupt: Callable[[], None],
    renew_s: float = RENEW_S,
    stale_s: float = STALE_S,
    wait_s: float = 0.0,
) -> Iterator[None]:
    """Hold the leases of the settings' looks and shard.

    Args:
        store: the output.
        settings: of the run.
        interrupt: raises KeyboardInterrupt in the main thread; called if another run has taken the lease over.
        renew_s: between two renewals.
        stale_s: without a renewal, after which another run takes the lease over.
        wait_s: for a run that holds it to end, or to be stale.

    Raises:
        InputError: another run holds it or that of another number of shards (`run-active`), or has taken it over as
            this one was not heard of (`run-replaced`).
        StorageError: the output cannot be read or written.
    """
    end = time.monotonic() + wait_s
    with ExitStack() as leases:
        for look in settings.each_look():
            leases.enter_context(_held(_Lease(store, look, interrupt, renew_s, stale_s), renew_s, end))
        yield


@contextmanager
def _held(lease: _Lease, renew_s: float, end: float) -> Iterator[None]:
    _take(lease, end, renew_s)
    renewer = threading.Thread(target=lease.keep, name="lease", daemon=True)
    renewer.start()
    try:
        try:
            yield
        finally:
            lease.over.set()
            renewer.join(timeout=renew_s)  # it may wait for a store that is down
            lease.release()
    except KeyboardInterrupt:
        lease.check()
        raise
    lease.check()


def _take(lease: _Lease, end: float, every_s: float) -> None:
    while True:
        try:
            return lease.take()
        except InputError:
            if time.monotonic() >= end:
                raise
        time.sleep(min(every_s, max(0.0, end - time.monotonic())))


class _Lease:
    def __init__(
        self, store: Store, settings: RunSettings, interrupt: Callable[[], None], renew_s: float, stale_s: float
    ):
        self._store, self._settings, self._interrupt = store, settings, interrupt
        self._renew_s, self._stale_s = renew_s, stale_s
        self._shards = parse_shard(settings.shard)[1]
        self._folder = f"{FOLDER}/{settings.preset.digest}"
        self._place = "{}/{}-of-{}.json".format(self._folder, *parse_shard(settings.shard))
        now, pid = _now(), os.getpid()
        self._me = Holder(
            settings.run, socket.gethostname(), pid, _machine(), _process(pid) or "", now, now, uuid.uuid4().hex
        )
        self._successor: Holder | None = None
        self.over = threading.Event()

    def take(self) -> None:
        """Write our lease, unless somebody else's is alive."""
        for _ in range(TRIES):
            tag = self._store.tag(self._place)
            other = self._read(self._place)
            if other is not None and other.token == self._me.token:  # written, but the answer was lost
                break
            if other is not None and self._is_alive(self._place, other):
                raise self._refusal(other)
            if self._write(tag):
                break
        else:
            raise StorageError(f"{self._store.uri(self._place)} cannot be written", hint="run again later")
        for entry in self._store.entries(self._folder):
            shards = PurePosixPath(entry.path).stem.rpartition("-of-")[2]
            if shards != str(self._shards):
                other = self._read(entry.path)
                if other is not None and self._is_alive(entry.path, other):
                    self.release()
                    raise self._refusal(other, f" as one of {shards}" if shards != "1" else "")

    def keep(self) -> None:
        """Renew the lease until we are done or somebody has taken it."""
        while not self.over.wait(self._renew_s):
            try:
                tag = self._store.tag(self._place)
                holder = self._read(self._place)
                if holder is not None and holder.token != self._me.token:
                    self._successor = holder
                    self._interrupt()
                    return
                self._me = self._me._replace(renewed=_now())
                self._write(tag)  # if refused: the next turn sees by whom
            except StorageError as error:
                log.warning("the lease could not be renewed: %s", error)

    def release(self) -> None:
        """Remove the lease, if it is still ours."""
        with suppress(StorageError):
            holder = self._read(self._place)
            if holder is not None and holder.token == self._me.token:
                self._store.remove(self._place)

    def check(self) -> None:
        """Raise what has to be said if somebody has taken the lease."""
        if self._successor is not None:
            raise InputError(
                f"run {self._successor.run} on {self._successor.host} has taken the place of run {self._me.run}, "
                f"which was not heard of for {self._stale_s:g} s",
                hint="nothing is lost; let the other one finish",
                code="run-replaced",
            ) from None

    def _is_alive(self, place: str, holder: Holder) -> bool:
        if holder.machine == self._me.machine:
            return _process(holder.pid) == holder.process
        age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(holder.renewed)
        if abs(age.total_seconds()) < self._stale_s:
            return True
        time.sleep(1.5 * self._renew_s)  # clocks of machines differ: does it move?
        return self._read(place) not in (holder, None)

    def _refusal(self, holder: Holder, shards: str = "") -> InputError:
        minutes = (self._stale_s + 1.5 * self._renew_s) / 60
        return InputError(
            f"run {holder.run} on {holder.host} (process {holder.pid}) restores preset {self._settings.preset.folder} "
            f"into {self._store.uri()}{shards} since {holder.since}",
            hint="let it finish or stop it; if its machine has died, this works "
            f"{minutes:.2g} minutes later; runs of one look at the same time: --shard 1/2, --shard 2/2",
            code="run-active",
        )

    def _read(self, place: str) -> Holder | None:
        data = self._store.read_if_any(place)
        try:
            return Holder(**json.loads(data)) if data else None
        except (ValueError, TypeError):  # not written by us
            return None

    def _write(self, tag: str | None) -> bool:
        return self._store.write_if(self._place, json.dumps(self._me._asdict(), indent=1).encode(), tag)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")


def _machine() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _process(pid: int) -> str | None:
    """What tells a living process from others that have had its number; None if it does not live."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else ""
    return None if state in "ZX" else fields[18]  # when it was started
