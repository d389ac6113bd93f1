"""Captions that people have put in place of others (`supir captions OUTPUT --import`): small Parquet parts."""

from __future__ import annotations

import datetime
import io
import secrets
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.database import PartFiles
from pipeline.rows import Row
from pipeline.storage import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "captions/edited"
SCHEMA = pa.schema([("photo_id", pa.string()), ("caption", pa.string()), ("edited_at", pa.timestamp("us", tz="UTC"))])

NEWEST = "select photo_id, arg_max(caption, edited_at) as caption from edited group by photo_id"
"""The caption that stands, of every photo that has one; over `edited`."""


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
