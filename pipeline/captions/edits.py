"""Captions that people have put in place of others (`supir captions OUTPUT --import`): small Parquet parts."""

from __future__ import annotations

import datetime
import io
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import index
from pipeline.database import ROW_GROUP, PartFiles
from pipeline.rows import Row
from pipeline.storage import Store

T = TypeVar("T")

FOLDER = "captions/edited"
SCHEMA = pa.schema([("photo_id", pa.string()), ("caption", pa.string()), ("edited_at", pa.timestamp("us", tz="UTC"))])

NEWEST = "select photo_id, arg_max(caption, edited_at) as caption from edited group by photo_id"
"""The caption that stands, of every photo that has one; over `edited`."""


# The newest row of every photo, whatever its look: what people have written since stands before it.
_CAPTIONS = f"""
    with newest as (
        select photo_id, arg_max(struct_pack(caption, source := caption_source, digest := caption_digest,
                                             preset, uri := source_uri), finished_at) as row
        from every_row group by photo_id),
    edits as ({NEWEST})
    select photo_id, coalesce(edits.caption, row.caption, '') as caption,
           case when edits.caption is not null and row.source != 'prompt' then 'edited' else row.source end as source,
           case when edits.caption is null then row.digest end as digest, row.preset as preset, row.uri as uri
    from newest left join edits using (photo_id) order by photo_id
"""

_BEFORE = f"""
    with edits as ({NEWEST}),
    newest as (select photo_id, arg_max(struct_pack(caption, source := caption_source), finished_at) as row
               from every_row where photo_id in (select photo_id from given) group by photo_id)
    select given.photo_id as photo_id, given.caption as caption, newest.photo_id is null as unknown,
           coalesce(edits.caption, row.caption, '') as before, row.source = 'prompt' as prompted
    from given left join newest using (photo_id) left join edits using (photo_id) order by photo_id
"""


def append(store: Store, edits: Sequence[Row]) -> None:
    """Add captions, as `photo_id` and `caption`; an empty one is none, and stays so."""
    now = datetime.datetime.now(datetime.UTC)
    table = pa.Table.from_pylist([{**edit, "edited_at": now} for edit in edits], SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    store.write(f"{FOLDER}/{name}.parquet", buffer.getvalue())


@contextmanager
def opened(store: Store) -> Iterator[PartFiles]:
    """All parts, as a table for `database`."""
    parts = [entry.path for entry in store.entries(FOLDER) if entry.path.endswith(".parquet")]
    with store.at_hand(parts) as files:
        yield PartFiles(files, SCHEMA)


def current(store: Store, use: Callable[[Iterator[Row]], T]) -> T:
    """What `use` makes of the caption of every photo of an output, by photo_id.

    Rows have photo_id, caption, source, digest (of the model that wrote it), preset (of the newest look) and uri. `use`
    may be called more than once.

    Raises:
        InputError: there is no index (`no-index`).
    """
    index.check_exists(store)

    def rows_of(connection: Any) -> Iterator[Row]:
        for batch in connection.sql(_CAPTIONS).to_arrow_reader(ROW_GROUP):
            yield from batch.to_pylist()

    with opened(store) as edited:
        return index.read(store, lambda connection: use(rows_of(connection)), edited=edited)


def compare(store: Store, given: Sequence[Row]) -> list[Row]:
    """What stands where these captions are to go: rows with photo_id, caption, unknown, before, prompted.

    Args:
        store: the output.
        given: photo_id and caption.

    Raises:
        InputError: there is no index (`no-index`).
    """
    with opened(store) as edited:
        table = pa.Table.from_pylist(list(given), SCHEMA)
        found: list[Row] = index.query(store, _BEFORE, edited=edited, given=table).to_pylist()
    return found
