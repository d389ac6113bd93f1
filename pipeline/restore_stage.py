"""The restore stage: an actor with resident networks that fetches, restores and commits photos.

Ray calls it from several threads at once, so that one photo downloads and another uploads while a third is restored.
The threads meet in `_Networks`: whoever waits there is restored in one batch with the others.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import ray
import torch

from pipeline import commit, rows
from pipeline.attempts import MAX_ATTEMPTS, Gate
from pipeline.limits import check_size
from pipeline.photos.decode import check_name, decode
from pipeline.photos.encode import encode, encoding_warnings
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.storage import Store, split_uri
from supir_core import __version__
from supir_core.errors import PhotoError, StorageError, SupirError
from supir_core.image import to_uint8
from supir_core.restorer import Photo, Restored, Restorer, plan_photo

log = logging.getLogger(__name__)


class PhotoRestorer(Protocol):
    """What the stage needs of a restorer."""

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        """One result per photo."""


LoadRestorer = Callable[[RunSettings], PhotoRestorer]


def load_restorer(settings: RunSettings) -> PhotoRestorer:
    """The restorer that a run's settings ask for."""
    return Restorer.load(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        batch=settings.tile_batch,
        compiled=settings.compiled,
    )


class RestoreStage:
    """rows.CAPTIONED -> rows.INDEX, row by row.

    Args:
        settings: as `RunSettings.to_dict` gives them.
        threads: of the processor, for networks that run on it.
        attempts: a handle of an `Attempts` actor.
        load: builds the resident restorer.
    """

    def __init__(self, settings: dict[str, Any], threads: int, attempts: Any, load: LoadRestorer):
        self._settings = RunSettings.from_dict(settings)
        torch.set_num_threads(threads)
        self._attempts, self._gate = attempts, Gate()
        try:
            self._networks = _Networks(load(self._settings), self._settings.photos_per_batch)
        except SupirError as error:
            ray.get(attempts.refuse.remote(error))
            raise
        self._output = Store(self._settings.output)

    def __call__(self, photos: pa.Table) -> pa.Table:
        """One finished row per photo, whatever happens to it."""
        return rows.table([self._row(photo) for photo in photos.to_pylist()], rows.INDEX)

    def _row(self, photo: Row) -> Row:
        try:
            same = {
                "photo_id": photo["photo_id"],
                "source_version": photo["source_version"],
                "model_digest": self._settings.model_digest,
                "format": self._settings.format,
            }
            found = commit.find(self._output, self._settings.preset.folder, photo["path"], same)
        except SupirError as error:
            return self._stamped(self._new_row(photo) | _failure(error))
        if found is not None and not self._is_to_be_done_again(found):
            return found  # it was committed by a worker or a run that was ended before it stood in the index
        begun = ray.get(self._attempts.begun.remote(photo["photo_id"]))
        with self._gate.alone() if begun else self._gate.ordinary():
            ray.get(self._attempts.begin.remote(photo["photo_id"]))
            row = self._finished(photo, begun)
            self._attempts.end.remote(photo["photo_id"])
        return row

    def _is_to_be_done_again(self, found: Row) -> bool:
        settings = self._settings
        failed_in_passing = found["status"] == rows.FAILED and found["error_code"] in rows.TRANSIENT
        asked = settings.redo or failed_in_passing or (settings.retry_failed and found["status"] == rows.FAILED)
        return asked and found["run"] != settings.run

    def _finished(self, photo: Row, begun: int) -> Row:
        """The photo's committed row, restored or failed."""
        row = self._new_row(photo)
        start = time.monotonic()
        picture = None
        try:
            if begun >= MAX_ATTEMPTS:
                raise PhotoError(f"its worker died {begun} times while working on it", code="worker-crashed")
            picture = self._restore(photo, row)
            row["status"] = rows.RESTORED
        except Exception as error:
            row |= _failure(error)
        row["seconds"] = time.monotonic() - start
        return self._committed(photo, self._stamped(row), picture)

    def _new_row(self, photo: Row) -> Row:
        preset = self._settings.preset
        return {
            "photo_id": photo["photo_id"],
            "warnings": list(photo["warnings"] or []),
            "preset": preset.name,
            "preset_digest": preset.digest,
            "tau_r": preset.pull.tau_r,
            "model": self._settings.model,
            "model_digest": self._settings.model_digest,
            "caption": photo["caption"],
            "caption_source": photo["caption_source"],
            "source_uri": photo["uri"],
            "source_version": photo["source_version"],
            "format": self._settings.format,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "run": self._settings.run,
            "supir_version": __version__,
        }

    def _restore(self, photo: Row, row: Row) -> bytes:
        """The finished picture file; fills in what is learnt on the way."""
        start = time.monotonic()
        store, name = split_uri(photo["uri"])
        check_name(name)
        data = store.read(name)
        row |= {"source_bytes": len(data), "source_sha256": hashlib.sha256(data).hexdigest()}
        decoded = decode(data)
        row |= {
            "source_format": decoded.format,
            "source_mode": decoded.mode,
            "source_width": decoded.width,
            "source_height": decoded.height,
            "warnings": row["warnings"] + decoded.warnings,
        }
        subject = Photo(photo["photo_id"], decoded.pixels, self._settings.preset, photo["caption"])
        check_size(plan_photo(subject), self._settings)
        row["fetch_s"] = time.monotonic() - start
        start = time.monotonic()
        pixels, warnings = self._networks.restore(subject)
        row["restore_s"] = time.monotonic() - start
        row["warnings"] += warnings + encoding_warnings(self._settings.format, decoded.alpha)
        row["height"], row["width"] = pixels.shape[:2]
        return encode(pixels, self._settings.format, grey=decoded.grey, alpha=decoded.alpha)

    def _stamped(self, row: Row) -> Row:
        return row | {"finished_at": datetime.datetime.now(datetime.UTC)}

    def _committed(self, photo: Row, row: Row, picture: bytes | None) -> Row:
        start = time.monotonic()
        try:
            commit.commit(self._output, self._settings.preset.folder, photo["path"], row, picture)
        except StorageError as error:
            row |= _failure(error) | dict.fromkeys(("image", "bytes", "sha256", "width", "height"))
        return row | {"commit_s": time.monotonic() - start}


def _failure(error: Exception) -> Row:
    """What a row says of an error. One that is not ours is a bug, but one photo's: the others shall not wait for it."""
    message = str(error)
    if isinstance(error, SupirError):
        code, message = error.code, f"{error} ({error.hint})" if error.hint else message
    elif isinstance(error, MemoryError | torch.OutOfMemoryError):
        code = "out-of-memory"
    else:
        code, message = "internal-error", f"{type(error).__name__}: {error}"
        log.error("a bug, with one photo", exc_info=error)
    return {"status": rows.FAILED, "error_code": code, "error_message": message}


class Picture(NamedTuple):
    """A restored photo in 8 bits."""

    pixels: np.ndarray  # (height, width, 3) uint8
    warnings: list[str]


def _picture(result: Restored) -> Picture:
    if not torch.isfinite(result.image).all():
        raise PhotoError("the networks gave values that are no numbers", hint="--dtype float32", code="not-finite")
    return Picture(to_uint8(result.image), result.warnings)


class _Networks:
    """The one place of an actor where the networks run: threads bring photos, one thread restores what is waiting.

    Args:
        restorer: the resident networks.
        batch: at most this many photos at once.
    """

    def __init__(self, restorer: PhotoRestorer, batch: int):
        self._restorer, self._batch = restorer, batch
        self._waiting: queue.SimpleQueue[tuple[Photo, Future[Picture]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="networks", daemon=True).start()

    def restore(self, photo: Photo) -> Picture:
        """The restored photo; waits for the photos before it."""
        future: Future[Picture] = Future()
        self._waiting.put((photo, future))
        return future.result()

    def _serve(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < self._batch and not self._waiting.empty():
                batch.append(self._waiting.get())
            try:
                self._restore_batch(batch)
            except Exception as error:
                self._one_by_one(batch, error)

    def _restore_batch(self, batch: list[tuple[Photo, Future[Picture]]]) -> None:
        results = self._restorer.restore([photo for photo, _ in batch])
        pictures = [_picture(result) for result in results]
        for (_, future), picture in zip(batch, pictures, strict=True):
            future.set_result(picture)

    def _one_by_one(self, batch: list[tuple[Photo, Future[Picture]]], error: Exception) -> None:
        """After a batch has failed: the photo that is to blame fails alone."""
        for photo, future in batch:
            if len(batch) == 1:
                future.set_exception(error)
                continue
            try:
                self._restore_batch([(photo, future)])
            except Exception as own:
                future.set_exception(own)
