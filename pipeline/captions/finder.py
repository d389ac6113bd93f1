"""What a photo shows, in words: the first source that says something. No ray here."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import NamedTuple

from pipeline import rows
from pipeline.captions.captioning import COLUMN, DESCRIBE, EMBEDDED, ENDPOINT, NONE, SIDECAR, VLM, Captioning
from pipeline.manifest import caption_paths, read_caption
from pipeline.photos.decode import Decoded, decode, to_8_bits
from pipeline.photos.embedded import description
from pipeline.photos.header import check_name
from pipeline.ranges import open_ranges
from pipeline.rows import Row
from pipeline.storage import Store, split_uri
from pipeline.watch import Clock
from supir_core.errors import SupirError

Look = Callable[["Subject", Clock], "Found"]
"""Has a photo looked at by a model."""

Opener = Callable[[str], tuple[Store, str]]
"""The store that holds a photo or a caption file, and its path there; a SupirError if it may not be opened."""

Risk = Callable[[Row], AbstractContextManager[Clock]]
"""Where a photo is decoded and looked at: it may kill its worker, or never end."""


class Found(NamedTuple):
    """What a source says of a photo."""

    text: str = ""
    tiles: tuple[str, ...] = ()
    digest: str | None = None  # of the captioner, if one wrote it
    seconds: float | None = None  # that writing it took just now
    warnings: tuple[str, ...] = ()


class Subject:
    """A photo, of which only what is asked for is fetched.

    Args:
        photo: rows.MANIFEST.
        opener: of its URI.

    Raises:
        SupirError: an impossible URI; by its properties, a photo that cannot be read or decoded.
    """

    def __init__(self, photo: Row, opener: Opener = split_uri):
        self.photo = photo
        self._store, self._name = opener(photo["uri"])

    @cached_property
    def data(self) -> bytes:
        """Its file."""
        check_name(self._name)
        return self._store.read(self._name)

    @cached_property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(self.data).hexdigest()

    def decoded(self) -> Decoded:
        """Its pixels, decoded anew each time: several photos wait for a model at once, and they may be large."""
        return decode(self.data, accept_damaged=True)  # whether it is restored is not decided here


class CaptionFinder:
    """Captions of a run's photos.

    Args:
        captioning: where they come from.
        looks: the models among the sources, by source.
        risk: entered with a photo while it is decoded and looked at.
        opener: of URIs.
    """

    def __init__(self, captioning: Captioning, looks: Mapping[str, Look], risk: Risk, opener: Opener = split_uri):
        self._order, self._looks, self._risk, self._opener = captioning.sources, looks, risk, opener
        self._sources: dict[str, Callable[[Subject], Found]] = {
            SIDECAR: lambda subject: Found(sidecar(subject.photo, opener)),
            EMBEDDED: lambda subject: Found(embedded(subject.photo, captioning.prefix, opener)),
            COLUMN: lambda subject: Found(subject.photo.get("caption") or ""),
            VLM: lambda subject: self._looked_at(VLM, subject),
            ENDPOINT: lambda subject: self._looked_at(ENDPOINT, subject),
            DESCRIBE: self._described,
            NONE: lambda subject: Found(),
        }

    def find(self, photo: Row) -> Row:
        """The photo with its caption: rows.MANIFEST -> rows.CAPTIONED."""
        if photo.get("prompt"):
            return _captioned(photo, Found(photo["prompt"]), rows.PROMPT)
        if photo.get("edited") is not None:
            return _captioned(photo, Found(photo["edited"]), rows.EDITED)
        warnings: list[str] = []
        try:
            subject = Subject(photo, self._opener)
        except SupirError:  # an impossible URI, of which the restore stage makes a row
            return _captioned(photo, Found(), NONE)
        for source in self._order:
            try:
                found = self._sources[source](subject)
            except (SupirError, ValueError) as error:
                what = "unreadable" if source in (SIDECAR, EMBEDDED) else "failed"
                warnings.append(f"caption-{what}: {error}")
                continue
            warnings += found.warnings
            if found.text:
                return _captioned(photo, found._replace(warnings=tuple(warnings)), source)
        return _captioned(photo, Found(warnings=tuple(warnings)), NONE)

    def _looked_at(self, source: str, subject: Subject) -> Found:
        with self._risk(subject.photo) as clock:
            return self._looks[source](subject, clock)

    def _described(self, subject: Subject) -> Found:
        from supir_core.describe import describe  # noqa: PLC0415  # brings torch

        with self._risk(subject.photo):
            return Found(describe(to_8_bits(subject.decoded().pixels)))


def sidecar(photo: Row, opener: Opener = split_uri) -> str:
    """What the caption file beside a photo says; empty if there is none.

    Raises:
        StorageError: it cannot be read.
        ValueError: it is no text.
    """
    if photo["sidecar"] == "":  # the listing has shown that there is none
        return ""
    store, name = opener(photo["sidecar"] or photo["uri"])
    for path in [name] if photo["sidecar"] else caption_paths(name):
        data = store.read_if_any(path)
        if data is not None:
            return read_caption(data)
    return ""


def embedded(photo: Row, prefix: str, opener: Opener = split_uri) -> str:
    """What a photo's file says of it, behind the prefix; of most formats only the head is read.

    Raises:
        StorageError: the photo cannot be read.
    """
    store, name = opener(photo["uri"])
    size = photo.get("source_bytes")
    with open_ranges(store, name, size) if size else io.BytesIO(store.read(name)) as file:
        text = description(file)
    return prefix + text if text else ""


def _captioned(photo: Row, found: Found, source: str) -> Row:
    return {
        **photo,
        "caption": found.text,
        "caption_source": source,
        "caption_digest": found.digest,
        "caption_s": found.seconds,
        "tile_captions": list(found.tiles),
        "warnings": list(found.warnings),
    }
