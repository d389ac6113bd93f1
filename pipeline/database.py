"""Tables of more rows than memory takes: Parquet files, and DuckDB with bounded memory over them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

MEMORY = "1GB"  # of DuckDB; what does not fit goes to files beside the table's
ROW_GROUP = 100_000


class TableFile:
    """A table in a temporary Parquet file, which goes when the last reference to it does.

    Args:
        schema: of its rows.
        file: a complete table that is there already, and stays.
    """

    def __init__(self, schema: pa.Schema, file: Path | None = None):
        self.schema = schema
        self._writer: pq.ParquetWriter | None = None
        if file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="supir-")
            file = Path(self._folder.name) / "table.parquet"
            self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self.path = str(file)

    def append(self, table: pa.Table) -> None:
        """Add rows, until the table is read for the first time."""
        assert self._writer is not None, "this table is complete"
        self._writer.write_table(table.cast(self.schema), row_group_size=ROW_GROUP)

    @property
    def num_rows(self) -> int:
        """How many there are."""
        return int(self._file().metadata.num_rows)

    def read(self) -> pa.Table:
        """All rows: for tables that fit into memory."""
        return self._file().read()

    def rounds(self, rows: int) -> Iterator[pa.Table]:
        """The rows in order, at most so many at a time."""
        for batch in self._file().iter_batches(batch_size=rows):
            yield pa.Table.from_batches([batch], self.schema)

    def _file(self) -> pq.ParquetFile:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        return pq.ParquetFile(self.path)


class PartFiles:
    """A table in many Parquet files; a column that a file has not is null there.

    Args:
        files: the files; there may be none.
        schema: columns that the table has in any case.
    """

    def __init__(self, files: list[str], schema: pa.Schema):
        self.files = files
        self.template = TableFile(schema)
        assert self.template.num_rows == 0


@contextmanager
def database(**tables: Any) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB connection with views of tables by their names: a `TableFile`, `PartFiles` or an Arrow table."""
    with tempfile.TemporaryDirectory(prefix="supir-") as folder, duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{MEMORY}'; set preserve_insertion_order = false")
        connection.execute("set enable_progress_bar = false")  # it goes to stdout
        connection.execute("set temp_directory = $1", [folder])
        for name, table in tables.items():
            if isinstance(table, TableFile):
                table.num_rows  # noqa: B018  # completes the file
                connection.read_parquet(table.path).create_view(name)
            elif isinstance(table, PartFiles):
                files = [table.template.path, *table.files]
                connection.read_parquet(files, union_by_name=True, hive_partitioning=False).create_view(name)
            else:
                connection.register(name, table)
        yield connection


def into_file(answer: duckdb.DuckDBPyRelation, schema: pa.Schema) -> TableFile:
    """The rows of a query, as they come."""
    file = TableFile(schema)
    for batch in answer.to_arrow_reader(ROW_GROUP):
        file.append(pa.Table.from_batches([batch]))
    return file
