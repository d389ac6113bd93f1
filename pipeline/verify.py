"""Whether an output is what its index says: every restored photo's picture and record, and nothing else.

Several rows may share one picture. Millions of rows and objects are never in memory: listing and rows are tables in
files, and DuckDB joins them. The listing is made before the index is read, so that of a run that goes on meanwhile only
what it has finished within the last seconds can seem to have no row; whatever seems to be missing is looked for again.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline import index, rows
from pipeline.database import TableFile, database, into_file
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import StorageError

READERS = 16
CHUNK_BYTES = 8 * 2**20  # of a picture, in memory per reader
PER_ROUND = 10_000  # objects that are asked for before the first of them is answered for

LISTED = pa.schema([("path", pa.string()), ("bytes", pa.int64())])
SAME = ("status", "error_code", "image", "sha256", "bytes", "format", "model_digest", "source_version")
"""Columns in which a record agrees with its row."""
NEWEST = pa.schema([rows.INDEX.field(name) for name in ("photo_id", "preset_digest", *SAME, "finished_at")])
RECORDS = pa.schema([("path", pa.string()), ("unreadable", pa.string()), ("duplicate_of", pa.string()), *NEWEST])
PICTURES = pa.schema(
    [
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("photo_id", pa.string()),
        ("record", pa.string()),  # where its record lies
    ]
)
PATHS = pa.schema([("path", pa.string()), ("photo_id", pa.string())])

_RECORD_OF_IMAGE = r"regexp_replace(image, '^images/(.*)\.[^.]*$', 'records/\1.json', 's')"
_NEWEST = f"select {', '.join(NEWEST.names)} from photos"
_PICTURES = rf"""
    select image as path, sha256, bytes, min(photo_id) as photo_id,
           {_RECORD_OF_IMAGE} as record
    from newest where status = '{rows.RESTORED}' and image is not null group by image, sha256, bytes
"""
_ORPHANS = """
    select path, '' as photo_id from listed
    where starts_with(path, 'images/') and md5_number(path) not in (
        select md5_number(image) from every_row where image is not null)
    order by path
"""
_NOT_AS_LISTED = """
    select pictures.* from pictures left join listed on md5_number(listed.path) = md5_number(pictures.path)
    where listed.bytes is distinct from pictures.bytes
"""
_WITHOUT_RECORD = """
    select record as path, min(photo_id) as photo_id from pictures
    where md5_number(record) not in (select md5_number(path) from listed) group by record order by record
"""
_RECORDS = "select path, '' as photo_id from listed where starts_with(path, 'records/')"
_RECORDS_OF_NO_PICTURE = f"{_RECORDS} and md5_number(path) not in (select md5_number(record) from pictures)"
_DIFFERENT = f"""
    with own as (
        select *, case when status = '{rows.RESTORED}' and duplicate_of is null then path != {_RECORD_OF_IMAGE}
                       else photo_id is not null and count(*) over (partition by photo_id, preset_digest) > 1
                  end as strays from found),
    compared as (
        select found.path, found.unreadable, found.strays, found.finished_at as found_at, newest.photo_id,
               newest.status as status, newest.finished_at as finished_at, concat_ws(', ', {
    ", ".join(f"case when found.{name} is distinct from newest.{name} then '{name}' end" for name in SAME)
}) as columns
        from own as found left join newest on md5_number(found.photo_id) = md5_number(newest.photo_id)
                                   and found.preset_digest = newest.preset_digest)
    select * from compared
    where unreadable is not null or strays or found_at is distinct from finished_at or columns != ''
    order by path
"""


class Problem(NamedTuple):
    """Something that is not as the index says."""

    what: str  # see `supir index verify --help`
    path: str  # of the picture or record, below the output
    photo_id: str  # empty where no row names the object
    detail: str


class Stock(NamedTuple):
    """What there should be, and what there is too much of."""

    listed: TableFile  # LISTED: every object below images/ and records/
    newest: TableFile  # NEWEST: the newest row of every photo and look
    pictures: TableFile  # PICTURES: each once, however many rows share it
    orphans: TableFile  # PATHS of pictures that no row names, not even an older one


def take_stock(store: Store) -> Stock:
    """The listing and the index of an output.

    Raises:
        InputError: there is no index (`no-index`).
    """
    index.check_exists(store)
    listed = TableFile(LISTED)
    for folder in ("images", "records"):
        for page in store.pages(folder):
            listed.append(pa.table([[e.path for e in page], [e.size_bytes for e in page]], schema=LISTED))

    def read(connection: Any) -> Stock:
        newest = into_file(connection.sql(_NEWEST), NEWEST)
        orphans = into_file(connection.sql(_ORPHANS), PATHS)
        return Stock(listed, newest, _select(_PICTURES, PICTURES, newest=newest), orphans)

    return index.read(store, read, listed=listed)


def check(
    store: Store, stock: Stock, fast: bool = False, on_checked: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Problem]:
    """What is wrong with an output.

    Args:
        store: the output.
        stock: what `take_stock` found.
        fast: believe the listing's sizes instead of reading pictures, and read only records that are no picture's.
        on_checked: called with the number of objects that have been looked at, and of those that are to be.
    """
    tables = {"listed": stock.listed, "pictures": stock.pictures}
    pictures = _select(_NOT_AS_LISTED, PICTURES, **tables) if fast else stock.pictures
    records = _select(_RECORDS_OF_NO_PICTURE if fast else _RECORDS, PATHS, **tables)
    found = TableFile(RECORDS)
    done, total = 0, pictures.num_rows + records.num_rows
    with ThreadPoolExecutor(READERS) as readers:
        for some in pictures.rounds(PER_ROUND):
            for problem in readers.map(partial(_picture_problem, store, fast), some.to_pylist()):
                done += 1
                on_checked(done, total)
                if problem is not None:
                    yield problem
        for some in records.rounds(PER_ROUND):
            read = []
            for record in readers.map(partial(_read_record, store), some["path"].to_pylist()):
                done += 1
                on_checked(done, total)
                read.append(record)
            found.append(rows.table(read, RECORDS))
    for orphan in _each(stock.orphans):
        yield Problem("orphan-picture", orphan["path"], "", "no row names it")
    for photo in _each(_select(_WITHOUT_RECORD, PATHS, **tables)):
        if store.size(photo["path"]) is None:
            yield Problem("record-missing", photo["path"], photo["photo_id"], "")
    yield from _record_problems(stock, found)


def _picture_problem(store: Store, fast: bool, picture: Row) -> Problem | None:
    """What is wrong with one picture."""
    path, expected = picture["path"], picture["bytes"]
    try:
        size = store.size(path)
        if size is None:
            return Problem("missing", path, picture["photo_id"], "")
        if size != expected:
            return Problem("changed", path, picture["photo_id"], f"{size} bytes instead of {expected}")
        if not fast and _sha256(store, path, size) != picture["sha256"]:
            return Problem("changed", path, picture["photo_id"], "another sha256")
    except StorageError as error:
        return Problem("unreadable", path, picture["photo_id"], str(error))
    return None


def _sha256(store: Store, path: str, size: int) -> str:
    digest = hashlib.sha256()
    for start in range(0, size, CHUNK_BYTES):
        digest.update(store.read_range(path, start, start + CHUNK_BYTES))
    return digest.hexdigest()


def _read_record(store: Store, path: str) -> Row:
    """One of RECORDS."""
    try:
        row = json.loads(store.read(path))
        texts = {name: None if row[name] is None else str(row[name]) for name in NEWEST.names}
        return {
            **texts,
            "path": path,
            "duplicate_of": row.get("duplicate_of"),
            "bytes": None if row["bytes"] is None else int(row["bytes"]),
            "finished_at": datetime.datetime.fromisoformat(row["finished_at"]),
        }
    except (StorageError, ValueError, KeyError, TypeError) as error:
        return {"path": path, "unreadable": f"{type(error).__name__}: {error}"}


def _record_problems(stock: Stock, found: TableFile) -> Iterator[Problem]:
    with database(found=found, newest=stock.newest) as connection:
        for batch in connection.sql(_DIFFERENT).to_arrow_reader(PER_ROUND):
            for record in batch.to_pylist():
                what, detail = _judged(record)
                if what:
                    yield Problem(what, record["path"], record["photo_id"] or "", detail)


def _judged(record: Row) -> tuple[str, str]:
    """What to say of a record that is not its row's copy."""
    if record["unreadable"] is not None:
        return "record-unreadable", record["unreadable"]
    if record["strays"]:
        return "orphan-record", "its photo has another one, in its own place"
    if record["photo_id"] is None or record["found_at"] > record["finished_at"]:
        return "orphan-record", "the index has no row of it; a run over its photo adopts it"
    if record["found_at"] == record["finished_at"]:
        return "record-differs", record["columns"]
    if record["status"] == rows.RESTORED:
        return "record-differs", "older than its row"
    return "", ""  # a failure that could not be written down, of a photo that has an older record


def _select(sql: str, schema: pa.Schema, **tables: TableFile) -> TableFile:
    with database(**tables) as connection:
        return into_file(connection.sql(sql), schema)


def _each(table: TableFile) -> Iterator[Row]:
    for some in table.rounds(PER_ROUND):
        yield from some.to_pylist()
