"""Who writes captions where nobody has: a resident vision-language model, or a server."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple, Protocol

import numpy as np

from pipeline import model_cache
from pipeline.captions.captioning import ENDPOINT, VLM, Captioning
from pipeline.captions.endpoint import Endpoint, endpoint_of
from pipeline.networks import SharedNetworks
from pipeline.settings import RunSettings
from pipeline.watch import Clock
from supir_core.caption_model import caption_digest, caption_directory
from supir_core.caption_text import Caption
from supir_core.captioner import Captioner
from supir_core.cleaner import Clean, Cleaner, pictures_to_caption, resized
from supir_core.errors import PhotoError, SupirError
from supir_core.models import read_dims
from supir_core.presets import Preset

DECODED_AT_ONCE = 2

log = logging.getLogger(__name__)


Read = Callable[[], np.ndarray]
"""Gives a photo's pixels: (H, W, 3) uint8, sRGB, upright."""


class Writer(Protocol):
    """Writes captions; for any number of threads."""

    @property
    def digest(self) -> str:
        """What decides its captions."""

    def __call__(self, read: Read, key: str, clock: Clock) -> list[Caption]:
        """The caption of a photo, and then of its tiles if they are asked for.

        Args:
            read: gives the photo.
            key: the sha256 of the photo's file.
            clock: of the photo.

        Raises:
            SupirError: there is none.
        """


LoadWriters = Callable[[RunSettings], Mapping[str, Writer]]


def load_writers(settings: RunSettings) -> dict[str, Writer]:
    """The writers that a run's sources need, by source.

    Raises:
        SupirError: a model that is not there or damaged, an impossible endpoint, no such device.
    """
    captioning = settings.captioning
    if not captioning.looks:
        return {}
    settings = model_cache.at_hand(settings)
    pictures = _Pictures.of(settings)
    writers: dict[str, Writer] = {}
    if VLM in captioning.sources:
        model = Captioner.load(
            captioning.model,
            device=settings.device,
            dtype=_dtype(captioning),
            quantization=captioning.quantization,
            settings=captioning.settings,
            batch=captioning.batch,
            allow_download=settings.allow_download,
            safetensors_only=settings.address is not None,
        )
        directory = caption_directory(captioning.model)
        digest = caption_digest(directory, captioning.settings, _dtype(captioning), captioning.quantization)
        writers[VLM] = _ByModel(model, digest, pictures, captioning.batch)
    if ENDPOINT in captioning.sources:
        writers[ENDPOINT] = _ByEndpoint(endpoint_of(captioning), pictures)
    return writers


def _dtype(captioning: Captioning) -> str | None:
    return None if captioning.dtype == "auto" else captioning.dtype


class _Pictures(NamedTuple):
    """What a writer looks at."""

    preset: Preset
    clean: Clean
    tiles_of_px: int | None
    decides: str  # 12 hex digits of all of it
    few: threading.Semaphore  # of the photos that wait for a model, only so many are in memory as they were

    @classmethod
    def of(cls, settings: RunSettings) -> _Pictures:
        captioning, preset = settings.captioning, settings.preset
        cleaned = captioning.input == "stage1" and preset.stage1.clean != "none"
        clean = Cleaner.load(settings.model, device=settings.device, dtype=settings.dtype) if cleaned else resized
        decides = [
            settings.model_digest if cleaned else "photo",
            [asdict(preset.size), asdict(preset.tile)] if captioning.per_tile else None,
        ]
        side_px = read_dims(settings.model).vae.factor if captioning.per_tile else None
        return cls(preset, clean, side_px, _short_hash(decides), threading.Semaphore(DECODED_AT_ONCE))

    def __call__(self, read: Read) -> list[np.ndarray]:
        with self.few:
            return pictures_to_caption(read(), self.preset, self.clean, self.tiles_of_px)


class _Asked(NamedTuple):
    pictures: list[np.ndarray]
    key: str


class _ByModel:
    """A resident captioner, for which photos wait together."""

    def __init__(self, captioner: Captioner, digest: str, pictures: _Pictures, batch: int):
        self.digest = _short_hash([digest, pictures.decides])
        self._captioner, self._pictures = captioner, pictures
        self._networks = SharedNetworks[_Asked, list[Caption]](self._write, batch)

    def __call__(self, read: Read, key: str, clock: Clock) -> list[Caption]:
        try:
            return self._networks(_Asked(self._pictures(read), key), clock)
        except SupirError:
            raise
        except Exception as error:  # of transformers and its models anything may come; the others shall not wait
            log.error("no caption, for a reason that is not known", exc_info=error)
            raise PhotoError(f"{type(error).__name__}: {error}", code="internal-error") from error

    def _write(self, asked: Sequence[_Asked]) -> list[list[Caption]]:
        """Captions of all pictures of all photos, in as few calls as the batch takes."""
        pictures = [picture for photo in asked for picture in photo.pictures]
        keys = [f"{photo.key}:{n}" if n else photo.key for photo in asked for n in range(len(photo.pictures))]
        captions = iter(self._captioner.caption(pictures, keys))
        return [[next(captions) for _ in photo.pictures] for photo in asked]


class _ByEndpoint:
    """A server."""

    def __init__(self, server: Endpoint, pictures: _Pictures):
        self.digest = _short_hash([server.digest, pictures.decides])
        self._server, self._pictures = server, pictures

    def __call__(self, read: Read, key: str, clock: Clock) -> list[Caption]:
        return [self._server.caption(picture) for picture in self._pictures(read)]


def _short_hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
