"""Captions by models, each written once: looked up, else written and kept, and cut to the room that there is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property

import numpy as np

from pipeline import routing
from pipeline.captions import cache
from pipeline.captions.cache import Written
from pipeline.captions.finder import Found, Subject
from pipeline.captions.writers import Writer
from pipeline.duplicates import OneAtATime
from pipeline.limits import check_size
from pipeline.photos.decode import to_8_bits
from pipeline.photos.evidence import sharpness
from pipeline.settings import RunSettings
from pipeline.storage import Store
from pipeline.watch import Clock
from supir_core.caption_text import clean_to_fit
from supir_core.errors import SupirError
from supir_core.networks.text import PROMPT_TOKENS, Tokenizer
from supir_core.sizes import planned

EMPTY = "caption-empty"

log = logging.getLogger(__name__)


class CaptionKeeper:
    """What a writer says of photos; for any number of threads.

    Args:
        writer: looks at pictures.
        settings: of the run.
    """

    def __init__(self, writer: Writer, settings: RunSettings):
        self._writer, self._settings, self._output = writer, settings, Store(settings.output)
        self._works = OneAtATime()

    def __call__(self, subject: Subject, clock: Clock) -> Found:
        """What it says of one.

        Raises:
            SupirError: the photo cannot be read or decoded, or nothing can be said of it.
        """
        digest = self._writer.digest
        with self._works.only(subject.sha256, clock):
            kept = cache.find(self._output, digest, subject.sha256)
            if kept is not None:
                return self._found(kept, None)
            whole, *tiles = captions = self._writer(lambda: self._read(subject), subject.sha256, clock)
            warnings = tuple(dict.fromkeys(caption.warning for caption in captions if caption.warning))
            written = Written(
                whole.text,
                [tile.text or whole.text for tile in tiles],
                sum(caption.seconds for caption in captions),
                sum(caption.tokens for caption in captions),
            )
            if set(warnings) <= {EMPTY}:  # other warnings may not come again
                self._keep(subject.sha256, written)
        return self._found(written, written.seconds, warnings)

    def _read(self, subject: Subject) -> np.ndarray:
        """Its pixels, if it is going to be restored."""
        decoded = subject.decoded()
        size = planned(self._settings.preset.size, decoded.height, decoded.width)
        check_size(size, decoded.format, self._settings)
        if reason := routing.skipped(decoded.header, size, sharpness(decoded.pixels), self._settings):
            raise routing.as_refusal(reason)
        return to_8_bits(decoded.pixels)

    def _keep(self, sha256: str, written: Written) -> None:
        try:
            cache.keep(self._output, self._writer.digest, sha256, written)
        except SupirError as error:  # it will be written again
            log.warning("a caption is not kept: %s", error)

    def _found(self, written: Written, seconds: float | None, warnings: tuple[str, ...] = ()) -> Found:
        if not written.text:
            return Found(warnings=warnings or (EMPTY,))
        return Found(
            self._fitted(written.text), tuple(map(self._fitted, written.tiles)), self._writer.digest, seconds, warnings
        )

    def _fitted(self, text: str) -> str:
        """What of it has room beside the preset's own words."""
        suffix = self._settings.preset.text.positive
        return clean_to_fit(text, PROMPT_TOKENS, lambda part: self._count(part + suffix))

    @cached_property
    def _count(self) -> Callable[[str], int]:
        return Tokenizer().count
