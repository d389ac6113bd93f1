"""The Parquet index under `<output>/index/`: append while a run goes on, resume from it, query it.

It is plain Parquet with the columns of `rows.INDEX`. A photo that was done again (it had changed, or had failed) has an
older row and a newer one; `photos`, the view that queries see, holds the newest per photo and look.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import rows
from pipeline.database import database
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import InputError

FOLDER = "index"
FLUSH_ROWS = 1000
FLUSH_S = 10.0

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
    return bool(_parts(store))


def query(store: Store, sql: str, **tables: Any) -> pa.Table:
    """The answer to a query over the view `photos` and, by their names, over other tables.

    Raises:
        InputError: there is no index (`no-index`), or the query is wrong (`sql`).
    """
    parts = _parts(store)
    if not parts:
        raise InputError(
            f"no index in {store.uri()}", hint="give the folder that was --output of a supir run", code="no-index"
        )
    with database(every_row=store.dataset(parts, rows.INDEX), **tables) as connection:
        connection.execute(_NEWEST)
        try:
            answer = connection.sql(sql)
            if answer is None:
                raise InputError("the query returns no rows", hint="a query starts with select", code="sql")
            return answer.to_arrow_table()
        except duckdb.Error as error:
            raise InputError(
                str(error).splitlines()[0], hint=f"the view photos has {', '.join(rows.INDEX.names)}", code="sql"
            ) from error


def every_row(store: Store) -> Any:
    """All rows, older ones too, as something that `database` takes; no rows where there is no index."""
    parts = _parts(store)
    return store.dataset(parts, rows.INDEX) if parts else rows.table([], rows.INDEX)


def _parts(store: Store) -> list[str]:
    return [entry.path for entry in store.entries(FOLDER) if entry.path.endswith(".parquet")]
