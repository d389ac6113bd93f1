"""THE FLOW of a run: the only module that builds a Ray Dataset.

    manifest  minus what the index has  ->  one row, one block, one task; rows carry URIs, not pixels, and say which
                                            looks the photo is to get
      -> caption stage                      actors, with a resident model if there is one to ask; either all of a round
                                            first, so that it need not share a GPU with the next, or at the same time
      -> restore stage                      actors with resident networks; they commit picture and record, and give
                                            one row per photo and look
      -> index                              the driver appends finished rows to Parquet while the run goes on

Whatever is killed: a photo with a record is never restored again, and a photo without a row in the index is looked at
by the next run. Why each piece is as it is stands in DECISIONS.md.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset

from pipeline import metrics, replacing, rows
from pipeline.attempts import start_attempts
from pipeline.caption_stage import CaptionStage
from pipeline.captions.writers import LoadWriters, load_writers
from pipeline.database import TableFile
from pipeline.index import IndexWriter
from pipeline.progress import ProgressKeeper
from pipeline.release import release
from pipeline.restore_stage import LoadRestorer, RestoreStage, load_restorer
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.shares import Shares, share_machines
from pipeline.stopping import Stop, Unfinished
from pipeline.storage import Store
from supir_core.errors import ClusterError

ROUND_ROWS = 200_000  # the driver keeps about 8 KB per row until an execution ends
# One row at a time, and none prefetched: the thread that prefetches would still call Ray while it is shut down.
ROW_BY_ROW: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "prefetch_batches": 0}
OBJECT_STORE_BYTES = 512 * 2**20  # of a Ray that a run starts for itself; rows take some 200 bytes there
THREADS_WAIT_S = 60.0  # for an execution that is being ended to end
NO_PROGRESS_TIMEOUT_S = 12 * 3600  # an execution that waits this long for a machine is given up


def run(
    settings: RunSettings,
    todo: TableFile,
    on_rows: Callable[[list[Row]], None] = lambda new: None,
    load: LoadRestorer = load_restorer,
    load_captions: LoadWriters = load_writers,
    on_captions: Callable[[int], None] = lambda new: None,
    stop: Stop | None = None,
) -> bool:
    """Restore the photos of a plan and index them; whether all of them have been looked at.

    Args:
        settings: of the run.
        todo: rows.MANIFEST; or rows.CAPTIONED, which no captions are written for.
        on_rows: called with finished rows as they come.
        load: builds the restorer that every restore actor keeps.
        load_captions: builds what writes captions, for every caption actor.
        on_captions: called with how many more photos have been captioned, where that is done first.
        stop: hears signals; at the first one what has been begun is finished, and the rest left.

    Raises:
        SupirError: what an actor's construction raised, such as wrong weights.
        KeyboardInterrupt: a second signal.
    """
    stop, store = stop or Stop(), Store(settings.output)
    # What Ray's parts complain of, it prints to stdout, which is the caller's.
    with (
        redirect_stdout(sys.stderr),
        _cluster(settings),
        IndexWriter(store, settings.run, _marks(settings, store, todo)) as writer,
        stop.listening(),
    ):
        attempts, caption_attempts, none_left = start_attempts(), start_attempts(), True
        both = [caption_attempts, attempts]
        shares = share_machines(settings, _gpus())
        pictures = _pictures(settings, todo)
        with (
            ProgressKeeper(store, settings.run, pictures, shares.restorers, _gpus, stop.ask) as progress,
            metrics.run_goes_on(settings.run, pictures, lambda: progress.left),
            stop.draining(
                begin_no_more=lambda: _each(both, "drain"),
                unfinished=lambda: Unfinished(*map(sum, zip(*_each(both, "unfinished"), strict=True))),
            ),
        ):
            for photos_of_round in todo.rounds(ROUND_ROWS):
                needed = shares.at_most(photos_of_round.num_rows)
                with _unwrapped(both):
                    photos = _rows(photos_of_round)
                    if todo.schema != rows.CAPTIONED:
                        photos = captioned(settings, photos, needed, caption_attempts, load_captions)
                        if shares.captions_first:
                            photos = _rows(_all_of(photos, on_captions, stop))
                    photos = restored(settings, photos, needed, attempts, load)
                    for finished in photos.iter_batches(**ROW_BY_ROW):
                        new = [row for row in finished.to_pylist() if row["status"] != rows.LEFT]
                        none_left &= len(new) == finished.num_rows
                        writer.append(new)
                        progress.add(new)
                        metrics.rows_came(settings.run, new)
                        on_rows(new)
                        attempts.came.remote([row["photo_id"] for row in new])
            progress.ended(none_left)
            return none_left
    return False


def _gpus() -> float:
    """That the cluster has at this moment."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def _pictures(settings: RunSettings, todo: TableFile) -> int:
    """That are to be made: of each photo one per look."""
    return sum(
        len(settings.presets if looks is None else looks)
        for photos in todo.rounds(ROUND_ROWS)
        for looks in photos["looks"].to_pylist()
    )


def _each(attempts: list[Any], method: str) -> list[Any]:
    """What each of several `Attempts` actors answers."""
    answers: list[Any] = ray.get([getattr(one, method).remote() for one in attempts])
    return answers


def _marks(settings: RunSettings, store: Store, todo: TableFile) -> Callable[[list[Row]], None]:
    """What to do when the index has rows: their pictures are no longer newer than it.

    Pictures that will be made again for people's captions are marked at once: no copy may point at one any more.
    """
    looks = {preset.digest: preset.folder for preset in settings.presets}
    for photos in todo.rounds(ROUND_ROWS):
        edited = photos.filter(photos["edited"].is_valid()).to_pylist()
        for digest, folder in looks.items():
            replacing.mark(store, folder, [row["photo_id"] for row in edited if digest in (row["looks"] or looks)])
    marked = {digest: set(replacing.marked(store, folder)) for digest, folder in looks.items()}

    def unmark(part: list[Row]) -> None:
        for digest, folder in looks.items():
            ids = {row["photo_id"] for row in part if row["preset_digest"] == digest}
            replacing.unmark(store, folder, ids if settings.redo or settings.retry_captions else ids & marked[digest])

    return unmark


def _rows(photos: pa.Table) -> Dataset:
    """One block per photo."""
    return ray.data.from_arrow(photos).repartition(target_num_rows_per_block=1)


def _all_of(photos: Dataset, on_captions: Callable[[int], None], stop: Stop) -> pa.Table:
    """The captioned photos of a round, when all of them are; the captioner has gone then."""
    tables = []
    for table in photos.iter_batches(**ROW_BY_ROW):
        tables.append(table)
        if not stop.asked:
            on_captions(table.num_rows)  # afterwards photos pass by unseen
    return pa.concat_tables(tables)


def captioned(settings: RunSettings, photos: Dataset, shares: Shares, attempts: Any, load: LoadWriters) -> Dataset:
    """rows.MANIFEST -> rows.CAPTIONED."""
    workers, gpus = shares.captioners
    calls = settings.captioning.calls_at_once
    return photos.map_batches(
        CaptionStage,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        num_gpus=gpus,
        udf_modifying_row_count=False,
        fn_constructor_kwargs={
            "settings": settings.to_dict(),
            "threads": _threads(workers),
            "attempts": attempts,
            "load": load,
            "release": release(),
        },
        compute=ActorPoolStrategy(
            size=workers,
            max_concurrent_calls_per_actor=calls,
            max_tasks_in_flight_per_actor=calls,
            enable_true_multi_threading=True,
        ),
    )


def restored(settings: RunSettings, photos: Dataset, shares: Shares, attempts: Any, load: LoadRestorer) -> Dataset:
    """rows.CAPTIONED -> rows.INDEX, a row per look."""
    workers, gpus = shares.restorers
    calls = 2 * settings.photos_per_batch  # the next batch downloads while this one is restored
    return photos.map_batches(
        RestoreStage,
        batch_size=1,  # Ray insists on one where there are GPUs; blocks are one row anyway
        batch_format="pyarrow",
        num_cpus=0,  # the default of 1 would hold every CPU of a small machine and stop the other stages
        num_gpus=gpus,
        fn_constructor_kwargs={
            "settings": settings.to_dict(),
            "threads": _threads(workers),
            "attempts": attempts,
            "load": load,
            "release": release(),
        },
        compute=ActorPoolStrategy(
            size=workers,  # all asked for at once; none is let go in a lull, as networks take long to load
            max_concurrent_calls_per_actor=calls,
            max_tasks_in_flight_per_actor=calls,  # none waits behind a long photo while another worker is idle
            enable_true_multi_threading=True,
        ),
    )


def _threads(workers: int) -> int:
    return max(1, torch.get_num_threads() // workers)  # as many as torch would take, shared


@contextmanager
def _cluster(settings: RunSettings) -> Iterator[None]:
    """A Ray cluster: the caller's if it has one, the one at the address, or one on this machine for this run."""
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's own worries; ours are rows
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        if settings.address:
            _connect(settings.address, quiet)
        else:
            _start(quiet)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the command line shows its own, in photos
        context.execution_no_progress_timeout_s = NO_PROGRESS_TIMEOUT_S
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield
    finally:
        if started:
            _wait_for_executions()
            ray.shutdown()


def _wait_for_executions() -> None:
    """Ray's compiled part ends the process, without a word and with 1, if a thread calls it while Ray goes down."""
    end = time.monotonic() + THREADS_WAIT_S
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):
            thread.join(max(0.0, end - time.monotonic()))


def _connect(address: str, options: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster at {address}: {error}".splitlines()[0], hint="leave --address out to use this machine"
        ) from error


def _start(options: dict[str, Any]) -> None:
    try:
        with _silent_stderr():
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **options)
    except Exception as error:  # Ray's parts are processes, and fail in as many ways as there are machines
        raise ClusterError(
            f"Ray did not start: {type(error).__name__}: {error}".splitlines()[0],
            hint="is the machine overloaded, out of memory or out of disk? The same command goes on from here",
        ) from error


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what Ray's compiled part writes while it starts: one line that repeats the log level."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _unwrapped(attempts: list[Any]) -> Iterator[None]:
    """Raise the SupirError behind what Ray makes of it."""
    try:
        yield
    except Exception as error:
        try:
            reason = next(filter(None, _each(attempts, "refusal")), None)
        except ray.exceptions.RayError as lost:
            raise ClusterError("the Ray cluster went away", hint="the same command goes on from here") from lost
        if reason is not None:
            raise reason from error
        raise
