"""Photos of one content: the first is restored, the others' rows point at its picture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import claims, commit, replacing, rows
from pipeline.claims import Claim
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.sources import opened
from pipeline.storage import Store
from pipeline.watch import Clock

_FROM_FIRST = (
    "image", "width", "height", "bytes", "sha256", "bits", "source_format", "source_mode", "source_bits",
    "source_pages", "source_whole", "source_sharpness", "review", "evidence", "seed", "document_id", "libraries",
    "source_width", "source_height", "fidelity_db", "fidelity_de",
)  # fmt: skip
_OF_CAPTION = "caption-"  # warnings of one photo, not of its content


def find_first(store: Store, settings: RunSettings, claim: Claim | None, row: Row) -> Row | None:
    """The record of the photo that a claim names, if its picture can stand for this row's photo, too."""
    if claim is None or claim.photo_id == row["photo_id"]:
        return None
    first = commit.find(store, settings.preset.folder, claim.path, claim.photo_id)
    if first is None or first["status"] != rows.RESTORED or first.get("duplicate_of"):
        return None
    return first if claims.work_of(first) == claims.work_of(row) and _stays(first, settings) else None


def point_at(first: Row, row: Row) -> Row:
    """The row of a photo whose content has been restored."""
    warnings = [warning for warning in first["warnings"] if not warning.startswith(_OF_CAPTION)]
    copied = {name: first[name] for name in _FROM_FIRST}
    return row | copied | {"duplicate_of": first["photo_id"], "warnings": row["warnings"] + warnings}


def still_points(store: Store, settings: RunSettings, record: Row) -> bool:
    """Whether what a duplicate's record points at is still there, and will be."""
    look = settings.preset.folder
    first = commit.find(store, look, commit.path_of(look, record["image"]), record["duplicate_of"])
    return first is not None and first["sha256"] == record["sha256"] and _stays(first, settings)


def _stays(first: Row, settings: RunSettings) -> bool:
    """Whether a photo's picture will not be overwritten in this run."""
    if first["run"] == settings.run:
        return True
    if settings.redo or (settings.retry_captions and rows.has_lost_caption(first)):
        return False
    if replacing.is_marked(Store(settings.output), settings.preset.folder, first["photo_id"]):
        return False  # people have replaced its caption
    store, name = opened(first["source_uri"], settings)
    versions = [entry.version for entry in store.entries(name) if entry.path == name]
    return not first["source_version"] or versions in ([], [first["source_version"]])


class OneAtATime:
    """Lets equal work be done by one thread of a worker at a time: the next one then finds it done."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._going: set[str] = set()

    @contextmanager
    def only(self, work: str, clock: Clock) -> Iterator[None]:
        """Alone with this work; the photo's clock stands still until then."""
        with clock.waiting(), self._changed:
            self._changed.wait_for(lambda: work not in self._going)
            self._going.add(work)
        try:
            yield
        finally:
            with self._changed:
                self._going.remove(work)
                self._changed.notify_all()
