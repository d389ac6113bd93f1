"""Merging the index's many small parts into few, while others read it and runs append to it.

Every row is kept, older ones too: they are the history of runs. First the merged parts are written, each whole or not
at all; then the parts that they replace are deleted. Nothing is deleted that is not in a merged part, so whenever this
is killed, or run twice at once, no row is lost; the next compaction deletes and merges what was left lying.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa

from pipeline import index, rows
from pipeline.database import PartFiles, database, into_file
from pipeline.index import Footer
from pipeline.storage import Store

PART_ROWS = 1_000_000
DELETIONS_AT_ONCE = 16

_EACH_ONCE = """
    select * from parts
    qualify row_number() over (partition by photo_id, preset_digest, finished_at) = 1
    order by photo_id, finished_at
"""


class Compaction(NamedTuple):
    """What was done."""

    parts_before: int
    parts_after: int
    rows: int
    bytes_before: int
    bytes_after: int


def compact(
    store: Store, on_merged: Callable[[int, int], None] = lambda done, total: None, part_rows: int = PART_ROWS
) -> Compaction:
    """Merge the small parts of an index.

    Args:
        store: the output.
        on_merged: called with the rows that have been merged, and those that are to be.
        part_rows: of a merged part; parts with less than half of it are merged again.

    Raises:
        InputError: there is no index (`no-index`).
        StorageError: a part is damaged, or the store does not let us write or delete.
    """
    index.check_exists(store)
    paths = index.list_parts(store)
    before = _bytes(store, paths)
    found = index.footers(store, paths)
    replaced = {path for part in found for path in part.replaces}
    _delete(store, replaced & set(paths))  # an earlier compaction was killed before it could
    present = [part for part in found if part.path not in replaced]
    groups = _groups(present, part_rows)
    total, done = sum(part.rows for group in groups for part in group), 0
    name = index.MERGED + time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
    merged = []
    for number, group in enumerate(groups):
        merged.append(f"{name}-{number:04d}.parquet")
        _merge(store, group, merged[-1])
        done += sum(part.rows for part in group)
        on_merged(done, total)
    old = {part.path for group in groups for part in group}
    _delete(store, old)
    after = index.footers(store, [part.path for part in present if part.path not in old] + merged)
    return Compaction(
        parts_before=len(paths),
        parts_after=len(after),
        rows=sum(part.rows for part in after),
        bytes_before=sum(before.values()),
        bytes_after=sum(_bytes(store, (part.path for part in after)).values()),
    )


def _groups(present: list[Footer], part_rows: int) -> list[list[Footer]]:
    """Parts that are to become one part each."""
    times = Counter(path for part in present for path in part.replaces)
    twice = [part for part in present if any(times[path] > 1 for path in part.replaces)]  # by two compactions at once
    groups, room = [twice], -1
    for part in present:
        if part in twice or 2 * part.rows >= part_rows:
            continue
        if part.rows > room:
            groups.append([])
            room = part_rows
        groups[-1].append(part)
        room -= part.rows
    return [group for group in groups if len(group) > 1]


def _merge(store: Store, group: list[Footer], path: str) -> None:
    # Columns that only another version of this program knows are kept.
    schema = pa.unify_schemas([rows.INDEX, *(part.schema for part in group)])
    names = [part.path for part in group]
    with store.at_hand(names) as files, database(parts=PartFiles(files, schema)) as connection:
        merged = into_file(connection.sql(_EACH_ONCE), schema.with_metadata({index.REPLACES: json.dumps(names)}))
    assert merged.num_rows > 0
    store.upload(merged.path, path)


def _delete(store: Store, paths: Iterable[str]) -> None:
    with ThreadPoolExecutor(DELETIONS_AT_ONCE) as workers:
        list(workers.map(store.remove, paths))


def _bytes(store: Store, paths: Iterable[str]) -> dict[str, int]:
    sizes = {entry.path: entry.size_bytes for entry in store.entries(index.FOLDER)}
    return {path: sizes[path] for path in paths if path in sizes}
