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

from pipeline import kept, routing, rows
from pipeline.claims import Claim
from pipeline.kept import Stage1
from pipeline.limits import check_size
from pipeline.networks import SharedNetworks
from pipeline.photos import evidence
from pipeline.photos.damage import DamagedPhotoError
from pipeline.photos.decode import Decoded, decode, to_8_bits
from pipeline.photos.encode import format_of
from pipeline.photos.result import finish, libraries
from pipeline.photos.xmp import Provenance
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
    """A restored photo."""

    image: np.ndarray  # (3, height, width) float32 in [-1, 1]
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
    whole = {"source_whole": error.whole} if isinstance(error, DamagedPhotoError) else {}
    return {"status": rows.FAILED, "error_code": code, "error_message": message, **whole}


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
        decoded = decode(data, accept_damaged=self._settings.accept_damaged)
        sharpness = evidence.sharpness(decoded.pixels)
        known: dict[Stage1, Latents | None] = {}
        subjects: list[tuple[Look, Photo]] = []
        for look in looks:
            look.row |= {
                "source_format": decoded.format,
                "source_mode": decoded.mode,
                "source_bits": decoded.bits,
                "source_pages": decoded.pages,
                "source_whole": decoded.whole,
                "source_sharpness": sharpness,
                "source_width": decoded.width,
                "source_height": decoded.height,
                "warnings": look.row["warnings"] + decoded.warnings,
            }
            with look.failing_alone():
                subject = self._subject(photo, look, decoded, known)
                if look.row["skip_reason"]:
                    look.row["status"] = rows.SKIPPED
                else:
                    subjects.append((look, subject))
            look.row["fetch_s"] += time.monotonic() - start
        start = time.monotonic()
        made = self._pictures([subject for _, subject in subjects], clock)
        for (look, subject), picture in zip(subjects, made, strict=True):
            look.row |= {"restore_s": time.monotonic() - start, "networks_s": clock.networks_s / len(made)}
            with look.failing_alone():
                self._encode(look, subject, picture, decoded, data)
                self._keep(look, subject, picture, known)

    def _subject(self, photo: Row, look: Look, decoded: Decoded, known: dict[Stage1, Latents | None]) -> Photo:
        """What the networks are asked for; the row says why they need not be."""
        preset, sha256 = look.settings.preset, look.row["source_sha256"]
        if photo["caption_source"] == rows.PROMPT:
            preset = derive(preset, ["text.positive="])
        subject = Photo(sha256, decoded.pixels, preset, photo["caption"], tuple(photo["tile_captions"] or ()))
        size = plan_photo(subject)
        check_size(size, decoded.format, look.settings)
        sharpness = look.row["source_sharpness"]
        look.row["skip_reason"] = routing.skipped(decoded.header, size, sharpness, look.settings)
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

    def _encode(self, look: Look, subject: Photo, made: Picture | Exception, decoded: Decoded, data: bytes) -> None:
        """Give a look its finished file, and its row what that is and how far it is from the photo."""
        if isinstance(made, Exception):
            raise made
        settings, preset = look.settings, look.settings.preset
        moved = evidence.measured(made.image, decoded.pixels)
        levels = to_uint8(torch.from_numpy(made.image)[None])
        close = fidelity(to_8_bits(decoded.pixels), levels, decoded.grey)
        story = Provenance(
            subject.key, preset.folder, settings.model_digest, preset.sampling.seed, subject.caption or "",
            subject.tile_captions,
        )  # fmt: skip
        format_name = format_of(settings.format, decoded.format)
        done = finish(made.image, decoded, data, format_name, settings.quality, story)
        look.row["height"], look.row["width"] = made.image.shape[1:]
        look.row |= {
            "warnings": look.row["warnings"] + made.warnings + done.warnings,
            "bits": done.bits,
            "fidelity_db": close.db,
            "fidelity_de": close.de,
            "evidence": moved._asdict(),
            "review": evidence.reasons(moved, preset.review),
            "seed": story.seed,
            "document_id": story.document,
            "libraries": libraries(),
        }
        look.picture = done.data
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
    return Picture(result.image[0].numpy(), result.warnings, result.latents)
