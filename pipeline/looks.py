"""The looks of one photo, from its file to finished pictures: decoded once, restored together, each encoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import torch

from pipeline import kept, rows
from pipeline.claims import Claim
from pipeline.kept import Stage1
from pipeline.limits import check_size
from pipeline.networks import SharedNetworks
from pipeline.photos.decode import Decoded, decode
from pipeline.photos.encode import encode, encoding_warnings
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.storage import Store
from pipeline.watch import Clock
from supir_core.errors import PhotoError, SupirError
from supir_core.fidelity import fidelity
from supir_core.image import to_uint8
from supir_core.latents import Latents
from supir_core.presets import derive
from supir_core.restorer import Photo, Restored, plan_photo

log = logging.getLogger(__name__)


class PhotoRestorer(Protocol):
    """What a worker needs of a restorer."""

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        """One result per photo."""


class Picture(NamedTuple):
    """A restored photo in 8 bits."""

    pixels: np.ndarray  # (height, width, 3) uint8
    warnings: list[str]
    latents: Latents | None


@dataclass
class Look:
    """One look of one photo, on its way to its row."""

    settings: RunSettings  # of the run, with this look alone
    row: Row
    claim: Claim | None = None
    picture: bytes | None = None  # the finished file; None if there is none of its own

    @property
    def folder(self) -> str:
        """Of its results."""
        return self.settings.preset.folder

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """What goes wrong inside is this look's failure."""
        try:
            yield
        except Exception as error:
            self.row |= failure(error)

    @property
    def is_open(self) -> bool:
        """Whether it has neither failed nor been found done."""
        return "status" not in self.row


def failure(error: Exception) -> Row:
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


class LookMaker:
    """Makes pictures with resident networks; for any number of threads, whose photos share batches.

    Args:
        restorer: the networks.
        settings: of the run.
        on_batch: called with the number of photos of every batch and the seconds that it took.
    """

    def __init__(self, restorer: PhotoRestorer, settings: RunSettings, on_batch: Callable[[int, float], None]):
        self._networks = SharedNetworks[list[Photo], list[Picture]](
            partial(_restored_together, restorer), settings.photos_per_batch, on_batch
        )
        self._settings, self._output = settings, Store(settings.output)

    def __call__(self, photo: Row, looks: list[Look], data: bytes, clock: Clock) -> None:
        """Give looks their picture files, and fill in what is learnt on the way; a look that fails says so.

        Args:
            photo: rows.CAPTIONED.
            looks: with the sha256 of the photo's file in their rows.
            data: the file.
            clock: of the photo.

        Raises:
            PhotoError: the file cannot be decoded.
        """
        start = time.monotonic()
        decoded = decode(data)
        known: dict[Stage1, Latents | None] = {}
        subjects: list[tuple[Look, Photo]] = []
        for look in looks:
            look.row |= {
                "source_format": decoded.format,
                "source_mode": decoded.mode,
                "source_width": decoded.width,
                "source_height": decoded.height,
                "warnings": look.row["warnings"] + decoded.warnings,
            }
            with look.failing_alone():
                subjects.append((look, self._subject(photo, look, decoded.pixels, known)))
            look.row["fetch_s"] += time.monotonic() - start
        start = time.monotonic()
        made = self._pictures([subject for _, subject in subjects], clock)
        for (look, subject), picture in zip(subjects, made, strict=True):
            look.row |= {"restore_s": time.monotonic() - start, "networks_s": clock.networks_s / len(made)}
            with look.failing_alone():
                self._encode(look, picture, decoded)
                self._keep(look, subject, picture, known)

    def _subject(self, photo: Row, look: Look, pixels: np.ndarray, known: dict[Stage1, Latents | None]) -> Photo:
        """What the networks are asked for."""
        preset, sha256 = look.settings.preset, look.row["source_sha256"]
        if photo["caption_source"] == rows.PROMPT:
            preset = derive(preset, ["text.positive="])
        subject = Photo(sha256, pixels, preset, photo["caption"], tuple(photo["tile_captions"] or ()))
        size = plan_photo(subject)
        check_size(size, look.settings)
        if self._settings.latents == "none":
            return subject
        stage1 = Stage1.of(sha256, size, preset)
        if stage1 not in known:
            known[stage1] = kept.find(self._output, look.settings, stage1)
        return replace(subject, latents=known[stage1])

    def _pictures(self, subjects: list[Photo], clock: Clock) -> list[Picture | Exception]:
        """What the networks make of a photo's looks; where they fail with all together, of each alone."""
        if not subjects:
            return []
        try:
            return list(self._networks(subjects, clock))
        except Exception as error:
            if len(subjects) == 1:
                return [error]
            return [self._pictures([subject], clock)[0] for subject in subjects]

    def _encode(self, look: Look, made: Picture | Exception, decoded: Decoded) -> None:
        """Give a look its finished file."""
        if isinstance(made, Exception):
            raise made
        format_name = look.settings.format
        look.row["warnings"] += made.warnings + encoding_warnings(format_name, decoded.alpha)
        look.row["height"], look.row["width"] = made.pixels.shape[:2]
        close = fidelity(decoded.pixels, made.pixels, decoded.grey)
        look.row["fidelity_db"], look.row["fidelity_de"] = close.db, close.de
        look.picture = encode(made.pixels, format_name, grey=decoded.grey, alpha=decoded.alpha)
        look.row["status"] = rows.RESTORED

    def _keep(self, look: Look, subject: Photo, made: Picture | Exception, known: dict[Stage1, Latents | None]) -> None:
        """Keep what other looks can start from, once."""
        if self._settings.latents != "keep" or isinstance(made, Exception):
            return
        stage1 = Stage1.of(subject.key, plan_photo(subject), subject.preset)
        if known[stage1] is None and made.latents is not None:
            known[stage1] = made.latents
            try:
                kept.keep(self._output, look.settings, stage1, made.latents)
            except SupirError as error:  # another look will compute them again
                log.warning("latents of %s are not kept: %s", look.row["photo_id"], error)


def _restored_together(restorer: PhotoRestorer, photos: Sequence[list[Photo]]) -> list[list[Picture]]:
    """The pictures of photos, each with its looks."""
    made = iter(restorer.restore([look for looks in photos for look in looks]))
    return [[_picture(next(made)) for _ in looks] for looks in photos]


def _picture(result: Restored) -> Picture:
    if not torch.isfinite(result.image).all():
        raise PhotoError("the networks gave values that are no numbers", hint="--dtype float32", code="not-finite")
    return Picture(to_uint8(result.image), result.warnings, result.latents)
