"""The promise of a run, checked from the store and the index alone.

Whatever is killed, and whatever the store answers: every photo stands in the index exactly once per look, with a
picture whose sha256 is the recorded one or with a reason.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import commit, index, rows
from pipeline.manifest import read_manifest
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import SupirError
from supir_core.presets import Preset

READERS = 16


class Kept(NamedTuple):
    """What came out of one or more looks; the lists name photos, each as `look/photo_id`."""

    photos: int
    restored: int
    duplicates: int  # of these, those that show the picture of another photo
    failed: dict[str, int]  # by reason
    lost: list[str]  # not in the index
    twice: list[str]  # restored by more than one row, or more than once in the view
    wrong: list[str]  # the picture is not there, or not the recorded one
    unproved: list[str]  # no record, or one that says something else than the index
    strange: list[str]  # in the index or the records, but not in the manifest, or failed without a reason

    @property
    def broken(self) -> dict[str, list[str]]:
        """Where the promise does not hold."""
        return {name: found for name in Kept._fields[4:] if (found := getattr(self, name))}


def look_at(source: str, output: str, looks: Sequence[Preset]) -> Kept:
    """Where the photos of a manifest stand under some looks."""
    store = Store(output)
    ids = {photo["photo_id"]: photo["path"] for photo in read_manifest(source).photos.read().to_pylist()}
    parts = [pq.read_table(io.BytesIO(store.read(entry.path))) for entry in store.entries("index")]
    every_row = pa.concat_tables(parts)
    view = index.query(store, "select * from photos").to_pylist()
    kept = Kept(len(ids) * len(looks), 0, 0, {}, [], [], [], [], [])
    with duckdb.connect() as connection:
        connection.register("every_row", every_row)
        more_than_once = connection.execute(
            "select preset_digest, photo_id from every_row where status = 'restored' group by all having count(*) > 1"
        ).fetchall()
    for look in looks:
        mine = [row for row in view if row["preset_digest"] == look.digest]
        twice = {photo for digest, photo in more_than_once if digest == look.digest}
        twice |= {photo for photo, count in Counter(row["photo_id"] for row in mine).items() if count > 1}
        kept = _add(kept, _one_look(store, look.folder, ids, {row["photo_id"]: row for row in mine}, twice))
    return kept


def _one_look(store: Store, look: str, ids: dict[str, str], found: dict[str, Row], twice: set[str]) -> Kept:
    with ThreadPoolExecutor(READERS) as pool:
        known = [photo for photo in ids if photo in found]
        truths = pool.map(lambda photo: _true(store, found[photo]), known)
        wrong = [photo for photo, good in zip(known, truths, strict=True) if not good]
        proofs = pool.map(lambda photo: _proved(store, look, ids[photo], found[photo]), known)
        unproved = [photo for photo, good in zip(known, proofs, strict=True) if not good]
    records = {entry.path for entry in store.entries(f"records/{look}")}
    strange = [photo for photo, row in found.items() if photo not in ids or not _reasoned(row)]
    strange += sorted(records - {commit.record_path(look, path) for path in ids.values()})
    failed = {photo: row["error_code"] for photo, row in found.items() if row["status"] != rows.RESTORED}
    lists = (
        [photo for photo in ids if photo not in found],
        sorted(twice), wrong, unproved, strange,
    )  # fmt: skip
    return Kept(
        len(ids),
        len(found) - len(failed),
        sum(row["duplicate_of"] is not None for row in found.values()),
        dict(Counter(failed.values())),
        *([f"{look}/{photo}" for photo in photos] for photos in lists),
    )


def _reasoned(row: Row) -> bool:
    if row["status"] == rows.RESTORED:
        return row["error_code"] is None and bool(row["image"])
    return row["status"] == rows.FAILED and bool(row["error_code"]) and row["image"] is None


def _true(store: Store, row: Row) -> bool:
    """Whether the row's picture lies there with the recorded sha256."""
    if row["status"] != rows.RESTORED:
        return True
    data = store.read_if_any(row["image"])
    return data is not None and hashlib.sha256(data).hexdigest() == row["sha256"] and len(data) == row["bytes"]


def _proved(store: Store, look: str, path: str, row: Row) -> bool:
    """Whether the photo's record says what the index does; what the store refused has none to say it."""
    if row["error_code"] in ("storage", "denied"):
        return True
    try:
        record = commit.find(store, look, path, row["photo_id"])
    except SupirError:
        return False
    return record is not None and all(record[name] == row[name] for name in ("status", "error_code", "image", "sha256"))


def _add(one: Kept, other: Kept) -> Kept:
    """Of all looks together; the photos are in the first already."""
    failed = dict(Counter(one.failed) + Counter(other.failed))
    sums = (one.restored + other.restored, one.duplicates + other.duplicates, failed)
    return Kept(one.photos, *sums, *(ours + theirs for ours, theirs in zip(one[4:], other[4:], strict=True)))
