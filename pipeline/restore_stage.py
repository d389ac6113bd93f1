"""The restore stage: an actor with resident networks that fetches, restores and commits photos.

Ray calls it from several threads at once, so that one photo downloads and another uploads while a third is restored.
The threads meet in `SharedNetworks`.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import ray
import torch

from pipeline import claims, commit, duplicates, logs, metrics, model_cache, replacing, rows
from pipeline.attempts import Standing
from pipeline.limits import check_size
from pipeline.networks import SharedNetworks
from pipeline.photos.decode import check_name, decode
from pipeline.photos.encode import encode, encoding_warnings
from pipeline.release import check as check_release
from pipeline.rows import Row
from pipeline.safeguard import Safeguard
from pipeline.settings import RunSettings
from pipeline.sources import opened
from pipeline.storage import Store
from pipeline.watch import Clock
from supir_core import __version__
from supir_core.errors import PhotoError, SupirError
from supir_core.image import to_uint8
from supir_core.models import check_safetensors
from supir_core.presets import derive
from supir_core.restorer import Photo, Restored, Restorer, plan_photo

log = logging.getLogger(__name__)


class PhotoRestorer(Protocol):
    """What a worker needs of a restorer."""

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        """One result per photo."""


class Picture(NamedTuple):
    """A restored photo in 8 bits."""

    pixels: np.ndarray  # (height, width, 3) uint8
    warnings: list[str]


LoadRestorer = Callable[[RunSettings], PhotoRestorer]


def load_restorer(settings: RunSettings) -> PhotoRestorer:
    """The restorer that a run's settings ask for."""
    settings = model_cache.at_hand(settings)
    if settings.address is not None:
        check_safetensors(settings.model)
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
        release: the driver's.
    """

    def __init__(self, settings: dict[str, Any], threads: int, attempts: Any, load: LoadRestorer, release: str):
        torch.set_num_threads(threads)
        self._refusal: SupirError | None = None
        try:
            check_release(release, socket.gethostname())
            self._settings = RunSettings.from_dict(settings)
            logs.set_up(self._settings.log_format, self._settings.run)
            restorer = load(self._settings)
        except SupirError as error:
            ray.get(attempts.refuse.remote(error))
            self._refusal = error
            return
        self._networks = SharedNetworks[Photo, Picture](
            lambda photos: [_picture(result) for result in restorer.restore(photos)],
            self._settings.photos_per_batch,
            lambda photos, seconds: metrics.batch_ended(
                self._settings.run, photos / self._settings.photos_per_batch, seconds
            ),
        )
        metrics.worker_began(self._settings.run)
        self._output, self._look = Store(self._settings.output), self._settings.preset.folder
        self._works = duplicates.OneAtATime()
        self._guard = Safeguard(attempts, self._settings)

    def __call__(self, photos: pa.Table) -> pa.Table:
        """One finished row per photo, whatever happens to it."""
        if self._refusal:  # Ray would print one that is raised by a constructor, and try again
            raise self._refusal
        finished = []
        for photo in photos.to_pylist():
            with logs.about(photo["photo_id"]):
                finished.append(self._row(photo))
        return rows.table(finished, rows.INDEX)

    def _row(self, photo: Row) -> Row:
        photo_id = photo["photo_id"]
        try:
            commit.check_names(self._output, self._look, photo["path"], self._settings.format)
            found = commit.find(self._output, self._look, photo["path"], photo_id)
            if found is not None and self._stands(photo, found):
                return found  # it was committed by a worker or a run that was ended before it stood in the index
        except SupirError as error:
            return self._stamped(self._new_row(photo) | _failure(error))
        standing = self._guard.begin(photo_id)
        if standing is None:
            return self._new_row(photo) | {"status": rows.LEFT}
        with self._guard.over(photo_id) as clock:
            row = self._finished(photo, standing, clock)
        self._guard.end(photo_id)
        metrics.photo_ended(standing.deaths)
        log.info("%s in %.2f s", row.get("error_code") or row["status"], row.get("seconds") or 0.0)
        return row

    def _stands(self, photo: Row, found: Row) -> bool:
        """Whether a record that was found is as good as what would be made now."""
        settings = self._settings
        same = {
            "source_version": photo["source_version"],
            "model_digest": settings.model_digest,
            "format": settings.format,
        }
        if photo["edited"] is not None and not photo["prompt"]:
            same["caption"] = photo["edited"]
        if any(found.get(name) != value for name, value in same.items()):
            return False
        failed_in_passing = found["status"] == rows.FAILED and found["error_code"] in rows.TRANSIENT
        again = settings.redo or failed_in_passing or (settings.retry_failed and found["status"] == rows.FAILED)
        if again and found["run"] != settings.run:
            return False
        if settings.retry_captions and rows.has_lost_caption(found) and found["caption"] != photo["caption"]:
            return False
        if found.get("duplicate_of") and not duplicates.still_points(self._output, settings, found):
            return False
        return not replacing.is_marked(self._output, self._look, photo["photo_id"]) or commit.is_true(
            self._output, found
        )

    def _finished(self, photo: Row, standing: Standing, clock: Clock) -> Row:
        """The photo's committed row, restored or failed."""
        row, deaths = self._new_row(photo), standing.deaths
        try:
            self._guard.check(standing)
            data = self._fetched(photo, row)
        except Exception as error:
            return self._committed(photo, row | _failure(error), None, clock)
        with self._works.only(claims.work_of(row), clock):
            return self._once(photo, row, data, deaths, clock)

    def _once(self, photo: Row, row: Row, data: bytes, deaths: int, clock: Clock) -> Row:
        """The committed row of a photo of whose content no other is in hand: restored, unless that has been done."""
        work, claim, picture = claims.work_of(row), None, None
        try:
            claim = claims.find(self._output, self._look, work)
            first = duplicates.find_first(self._output, self._settings, claim, row)
            if first is None:
                with self._guard.at_risk(photo["photo_id"], deaths, clock):
                    picture = self._restored(photo, row, data, clock)
            else:
                row = duplicates.point_at(first, row)
            row["status"] = rows.RESTORED
        except ray.exceptions.RayError:  # the actor of attempts has gone, and with it the run: no fault of the photo's
            raise
        except Exception as error:
            row |= _failure(error)
        row = self._committed(photo, row, picture, clock)
        if row["status"] == rows.RESTORED and not row.get("duplicate_of"):
            try:
                mine = claims.Claim(row["photo_id"], photo["path"], row["run"])
                claims.make(self._output, self._look, work, mine, claim)
            except SupirError as error:  # a copy of the photo will be restored for itself
                log.warning("no claim for %s: %s", row["photo_id"], error)
        return row

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
            **{name: photo[name] for name in ("caption_source", "caption_digest", "caption_s", "tile_captions")},
            "source_uri": photo["uri"],
            "source_version": photo["source_version"],
            "format": self._settings.format,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "run": self._settings.run,
            "supir_version": __version__,
        }

    def _fetched(self, photo: Row, row: Row) -> bytes:
        """The photo's file; fills in what is learnt on the way."""
        start = time.monotonic()
        store, name = opened(photo["uri"], self._settings)
        check_name(name)
        data = store.read(name)
        row |= {"source_bytes": len(data), "source_sha256": hashlib.sha256(data).hexdigest()}
        row["fetch_s"] = time.monotonic() - start
        return data

    def _restored(self, photo: Row, row: Row, data: bytes, clock: Clock) -> bytes:
        """The finished picture file; fills in what is learnt on the way."""
        start = time.monotonic()
        decoded = decode(data)
        row |= {
            "source_format": decoded.format,
            "source_mode": decoded.mode,
            "source_width": decoded.width,
            "source_height": decoded.height,
            "warnings": row["warnings"] + decoded.warnings,
        }
        preset = self._settings.preset
        if photo["caption_source"] == rows.PROMPT:
            preset = derive(preset, ["text.positive="])
        tiles = tuple(photo["tile_captions"] or ())
        subject = Photo(row["source_sha256"], decoded.pixels, preset, photo["caption"], tiles)
        check_size(plan_photo(subject), self._settings)
        row["fetch_s"] += time.monotonic() - start
        start = time.monotonic()
        pixels, warnings = self._networks(subject, clock)
        row |= {"restore_s": time.monotonic() - start, "networks_s": clock.networks_s}
        row["warnings"] += warnings + encoding_warnings(self._settings.format, decoded.alpha)
        row["height"], row["width"] = pixels.shape[:2]
        return encode(pixels, self._settings.format, grey=decoded.grey, alpha=decoded.alpha)

    def _stamped(self, row: Row) -> Row:
        return row | {"finished_at": datetime.datetime.now(datetime.UTC)}

    def _committed(self, photo: Row, row: Row, picture: bytes | None, clock: Clock) -> Row:
        """The row that stands in the store, or one that says why none does."""
        start = time.monotonic()
        row = self._stamped(row) | {"seconds": clock.age()}
        try:
            stands = commit.commit(
                self._output, self._look, photo["path"], row, picture, lambda found: self._stands(photo, found)
            )
        except SupirError as error:
            nothing = dict.fromkeys(("image", "bytes", "sha256", "width", "height", "duplicate_of"))
            return row | _failure(error) | nothing
        return stands | {"commit_s": time.monotonic() - start} if stands is row else stands


def _picture(result: Restored) -> Picture:
    if not torch.isfinite(result.image).all():
        raise PhotoError("the networks gave values that are no numbers", hint="--dtype float32", code="not-finite")
    return Picture(to_uint8(result.image), result.warnings)


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
