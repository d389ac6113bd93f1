"""The Parquet index under `<output>/index/`: append while a run goes on, resume from it, query it.

It is plain Parquet with the columns of `rows.INDEX`. A photo that was done again (it had changed, or had failed) has an
older row and a newer one; `photos`, the view that queries see, holds the newest per photo and look.

A part is never rewritten. A merged part (`pipeline/compact.py`) names in its footer the parts whose rows it has; from
the moment it is there, readers pass over those, whether or not they have been deleted yet.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.database import PartFiles, database
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import InputError, StorageError

FOLDER = "index"
FLUSH_ROWS = 1000
FLUSH_S = 10.0
MERGED = f"{FOLDER}/merged-"  # begins the paths of merged parts
REPLACES = "supir.replaces"  # in a merged part's footer: the paths of the parts whose rows it has
FOOTERS_AT_ONCE = 16
ATTEMPTS = 5  # of a reader whose parts are merged while it reads

T = TypeVar("T")

_NEWEST = """
    create view photos as
    select * from every_row
    qualify row_number() over (partition by photo_id, preset_digest order by finished_at desc) = 1
"""


class IndexWriter:
    """Collects rows and writes them as Parquet parts; use it as a context manager, so that no row is lost.

    Args:
        store: the output.
        run: names this writer's parts.
        on_part: called with the rows of every part that has been written.
    """

    def __init__(self, store: Store, run: str, on_part: Callable[[list[Row]], None] = lambda part: None):
        self._store, self._run, self._on_part = store, run, on_part
        self._rows: list[Row] = []
        self._parts = 0
        self._flushed_at = time.monotonic()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def append(self, new: Iterable[Row]) -> None:
        """Add rows; writes a part when there are many, or when the last one is some seconds old."""
        self._rows.extend(new)
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected as one part."""
        if self._rows:
            buffer = io.BytesIO()
            pq.write_table(rows.table(self._rows, rows.INDEX), buffer, compression="zstd")
            self._store.write(f"{FOLDER}/{self._run}-{self._parts:06d}.parquet", buffer.getvalue())
            self._parts += 1
            written, self._rows = self._rows, []
            self._on_part(written)
        self._flushed_at = time.monotonic()


def exists(store: Store) -> bool:
    """Whether the output has an index with at least one part."""
    return bool(_names(store))


def query(store: Store, sql: str, **tables: Any) -> pa.Table:
    """The answer to a query over the view `photos`, over `every_row` and, by their names, over other tables.

    Raises:
        InputError: there is no index (`no-index`), or the query is wrong (`sql`).
    """
    check_exists(store)
    return read(store, lambda connection: _answer(connection, sql), **tables)


def check_exists(store: Store) -> None:
    """Refuse an output without an index.

    Raises:
        InputError: code `no-index`.
    """
    if not exists(store):
        raise InputError(
            f"no index in {store.uri()}", hint="give the folder that was --output of a supir run", code="no-index"
        )


def read(store: Store, use: Callable[[duckdb.DuckDBPyConnection], T], **tables: Any) -> T:
    """What `use` makes of a database with the index.

    It has `every_row` (older rows too; none where there is no index), `photos` (the newest per photo and look) and the
    other tables. `use` is called again, with a new listing, where parts have been merged while it read them.

    Raises:
        StorageError: a part is damaged, or the store cannot be read.
    """
    for attempt in range(ATTEMPTS):
        listed = parts(store)
        try:
            with (
                store.at_hand(listed) as files,
                database(every_row=PartFiles(files, rows.INDEX), **tables) as connection,
            ):
                connection.execute(_NEWEST)
                return use(connection)
        except Exception as error:
            if attempt < ATTEMPTS - 1 and not set(listed) <= set(_names(store)):
                continue
            if isinstance(error, duckdb.IOException | duckdb.InvalidInputException):
                raise _unreadable(store, error) from error
            raise
    raise AssertionError("a loop that returns or raises")


def _unreadable(store: Store, error: Exception) -> StorageError:
    return StorageError(
        f"the index in {store.uri()} cannot be read: {str(error).splitlines()[0]}",
        hint="delete a part that is damaged: the next run makes its rows again, from the records",
    )


def _answer(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    with answering():
        answer = connection.sql(sql)
        if answer is None:
            raise InputError("the query returns no rows", hint="a query starts with select", code="sql")
        return answer.to_arrow_table()


@contextmanager
def answering() -> Iterator[None]:
    """Where a user's SQL is run.

    Raises:
        InputError: it is wrong (`sql`).
    """
    try:
        yield
    except duckdb.Error as error:
        raise InputError(
            str(error).splitlines()[0], hint=f"the view photos has {', '.join(rows.INDEX.names)}", code="sql"
        ) from error


def parts(store: Store) -> list[str]:
    """The paths of the parts that have every row once: without parts that are merged and not deleted yet."""
    while True:
        listed = list_parts(store)
        try:
            replaced = {path for part in footers(store, listed, merged_only=True) for path in part.replaces}
        except StorageError as error:
            if error.code != "not-found":
                raise
            continue  # it was merged again, into another one
        return [path for path in listed if path not in replaced]


def list_parts(store: Store) -> list[str]:
    """The paths of all parts.

    A listing takes a while, and is no snapshot: one that is made while parts are merged may show neither an old part,
    deleted by then, nor the merged one, which was not there when its turn came. So it is made again until no part of
    the one before is missing from it: what was deleted by the end of the first was merged before the second began.
    """
    before = _names(store)
    while True:
        now = _names(store)
        if set(before) <= set(now):
            return now
        before = now


class Footer(NamedTuple):
    """What a part says of itself."""

    path: str
    rows: int
    schema: pa.Schema
    replaces: list[str]  # see REPLACES


def footers(store: Store, paths: Iterable[str], merged_only: bool = False) -> list[Footer]:
    """The footers of parts, or of the merged parts among them.

    Raises:
        StorageError: a part is gone (`not-found`) or damaged.
    """
    with ThreadPoolExecutor(FOOTERS_AT_ONCE) as readers:
        wanted = [path for path in paths if path.startswith(MERGED) or not merged_only]
        return list(readers.map(lambda path: _footer(store, path), wanted))


def _footer(store: Store, path: str) -> Footer:
    try:
        with store.open(path) as file:
            found = pq.read_metadata(file)
    except FileNotFoundError as error:  # deleted after it was opened
        raise StorageError(f"{store.uri(path)} does not exist", code="not-found") from error
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{store.uri(path)} is no Parquet file, or damaged: {error}") from error
    replaces = json.loads((found.metadata or {}).get(REPLACES.encode(), b"[]"))
    return Footer(path, found.num_rows, found.schema.to_arrow_schema(), replaces)


def _names(store: Store) -> list[str]:
    return [entry.path for entry in store.entries(FOLDER) if entry.path.endswith(".parquet")]
