"""The restore stage: an actor with resident networks that fetches, restores and commits photos.

Ray calls it from several threads at once, so that one photo downloads and another uploads while a third is restored.
The threads meet in `LookMaker`.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import ray
import torch

from pipeline import claims, commit, duplicates, logs, metrics, model_cache, replacing, routing, rows
from pipeline.attempts import Standing
from pipeline.looks import Look, LookMaker, PhotoRestorer, failure
from pipeline.photos.header import check_name
from pipeline.release import check as check_release
from pipeline.rows import Row
from pipeline.safeguard import Safeguard
from pipeline.settings import RunSettings
from pipeline.sources import opened
from pipeline.storage import Store
from pipeline.watch import Clock
from supir_core import __version__
from supir_core.errors import PhotoError, SupirError
from supir_core.models import check_safetensors
from supir_core.restorer import Restorer

log = logging.getLogger(__name__)


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
    """rows.CAPTIONED -> rows.INDEX: a row per photo and look.

    What does not hang on the look is done once per photo, and its looks are restored together.

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
        self._make = LookMaker(restorer, self._settings, self._batch_ended)
        metrics.worker_began(self._settings.run)
        self._output, self._looks = Store(self._settings.output), self._settings.each_look()
        self._works = duplicates.OneAtATime()
        self._guard = Safeguard(attempts, self._settings)

    def __call__(self, photos: pa.Table) -> pa.Table:
        """One finished row per photo and look, whatever happens to it."""
        if self._refusal:  # Ray would print one that is raised by a constructor, and try again
            raise self._refusal
        finished: list[Row] = []
        for photo in photos.to_pylist():
            with logs.about(photo["photo_id"]):
                finished += self._rows(photo)
        return rows.table(finished, rows.INDEX)

    def _rows(self, photo: Row) -> list[Row]:
        photo_id, done, todo = photo["photo_id"], list[Row](), list[Look]()
        for settings in self._looks:
            if photo["looks"] is None or settings.preset.digest in photo["looks"]:
                look = Look(settings, self._new_row(photo, settings))
                found = self._found(photo, look)
                if found is None:
                    todo.append(look)
                else:
                    done.append(found)
        if not todo:
            return done
        standing = self._guard.begin(photo_id)
        if standing is None:
            return done + [look.row | {"status": rows.LEFT} for look in todo]
        with self._guard.over(photo_id) as clock:
            self._finish(photo, todo, standing, clock)
        self._guard.end(photo_id)
        metrics.photo_ended(standing.deaths)
        for look in todo:
            said = look.row.get("error_code") or look.row["status"]
            log.info("%s: %s in %.2f s", look.folder, said, look.row.get("seconds") or 0.0)
        return done + [look.row for look in todo]

    def _batch_ended(self, photos: int, seconds: float) -> None:
        metrics.batch_ended(self._settings.run, photos / self._settings.photos_per_batch, seconds)

    def _found(self, photo: Row, look: Look) -> Row | None:
        """The row of a look that need not be begun."""
        try:
            commit.check_names(self._output, look.folder, photo["path"], self._settings.format)
            found = commit.find(self._output, look.folder, photo["path"], photo["photo_id"])
        except SupirError as error:
            return self._stamped(look.row | failure(error))
        # What stands was committed by a worker or a run that was ended before it stood in the index.
        return found if found is not None and self._stands(photo, look.settings, found) else None

    def _stands(self, photo: Row, look: RunSettings, found: Row) -> bool:
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
        passing = (*rows.TRANSIENT, *([rows.DAMAGED] if settings.accept_damaged else []))
        if found["status"] == rows.SKIPPED and not routing.still_skipped(found, settings):
            return False
        failed_in_passing = found["status"] == rows.FAILED and found["error_code"] in passing
        again = settings.redo or failed_in_passing or (settings.retry_failed and found["status"] == rows.FAILED)
        if again and found["run"] != settings.run:
            return False
        if settings.retry_captions and rows.has_lost_caption(found) and found["caption"] != photo["caption"]:
            return False
        if found.get("duplicate_of") and not duplicates.still_points(self._output, look, found):
            return False
        return not replacing.is_marked(self._output, look.preset.folder, photo["photo_id"]) or commit.is_true(
            self._output, found
        )

    def _finish(self, photo: Row, looks: list[Look], standing: Standing, clock: Clock) -> None:
        """Give looks their committed rows, restored or failed."""
        try:
            self._guard.check(standing)
            data, facts = self._fetched(photo)
        except Exception as error:
            for look in looks:
                look.row |= failure(error)
                self._commit(photo, look, clock)
            return
        for look in looks:
            look.row |= facts
        with self._works.only(facts["source_sha256"], clock):
            self._finish_content(photo, looks, data, standing.deaths, clock)

    def _finish_content(self, photo: Row, looks: list[Look], data: bytes, deaths: int, clock: Clock) -> None:
        """The same for a photo of whose content no other is in hand: looks that it has already are pointed at."""
        for look in looks:
            with look.failing_alone():
                look.claim = claims.find(self._output, look.folder, claims.work_of(look.row))
                first = duplicates.find_first(self._output, look.settings, look.claim, look.row)
                if first is not None:
                    look.row = duplicates.point_at(first, look.row) | {"status": rows.RESTORED}
        left = [look for look in looks if look.is_open]
        if left:
            try:
                with self._guard.at_risk(photo["photo_id"], deaths, clock):
                    self._make(photo, left, data, clock)
            except ray.exceptions.RayError:  # the actor of attempts has gone, and with it the run: no photo's fault
                raise
            except Exception as error:
                for look in left:
                    look.row |= failure(error)
        for look in looks:
            self._commit(photo, look, clock)
            if look.row["status"] == rows.RESTORED and not look.row.get("duplicate_of"):
                self._claim(photo, look)

    def _new_row(self, photo: Row, look: RunSettings) -> Row:
        preset = look.preset
        return {
            "photo_id": photo["photo_id"],
            "path": photo["path"],
            "warnings": list(photo["warnings"] or []),
            "preset": preset.name,
            "preset_digest": preset.digest,
            "tau_r": preset.pull.tau_r,
            "model": look.model,
            "model_digest": look.model_digest,
            "caption": photo["caption"],
            **{name: photo[name] for name in ("caption_source", "caption_digest", "caption_s", "tile_captions")},
            "source_uri": photo["uri"],
            "source_version": photo["source_version"],
            "format": look.format,
            "worker": f"{socket.gethostname()}:{os.getpid()}",
            "run": look.run,
            "supir_version": __version__,
        }

    def _fetched(self, photo: Row) -> tuple[bytes, Row]:
        """The photo's file, and what is learnt on the way."""
        start = time.monotonic()
        store, name = opened(photo["uri"], self._settings)
        check_name(name)
        data = store.read(name)
        facts = {"source_bytes": len(data), "source_sha256": hashlib.sha256(data).hexdigest()}
        if photo["source_sha256"] not in (None, facts["source_sha256"]):
            raise PhotoError(
                "the photo has changed since the look that this one goes on from",
                hint="supir run with its input restores it anew",
                code="photo-changed",
            )
        return data, {**facts, "fetch_s": time.monotonic() - start}

    def _claim(self, photo: Row, look: Look) -> None:
        """Say whose picture stands for this content."""
        mine = claims.Claim(look.row["photo_id"], photo["path"], look.row["run"])
        try:
            claims.make(self._output, look.folder, claims.work_of(look.row), mine, look.claim)
        except SupirError as error:  # a copy of the photo will be restored for itself
            log.warning("no claim for %s: %s", look.row["photo_id"], error)

    def _stamped(self, row: Row) -> Row:
        return row | {"finished_at": datetime.datetime.now(datetime.UTC)}

    def _commit(self, photo: Row, look: Look, clock: Clock) -> None:
        """Give a look the row that stands in the store, or one that says why none does."""
        start = time.monotonic()
        row = self._stamped(look.row) | {"seconds": clock.age()}
        try:
            stands = commit.commit(
                self._output,
                look.folder,
                photo["path"],
                row,
                look.picture,
                lambda found: self._stands(photo, look.settings, found),
            )
        except SupirError as error:
            nothing = dict.fromkeys(("image", "bytes", "sha256", "width", "height", "duplicate_of"))
            look.row = row | failure(error) | nothing
            return
        look.row = stands | {"commit_s": time.monotonic() - start} if stands is row else stands
