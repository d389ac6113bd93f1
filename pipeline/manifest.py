"""What is to be restored: a folder, an object-store prefix, one photo, or a CSV, JSONL or Parquet list of URIs."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from pipeline import rows
from pipeline.database import ROW_GROUP, TableFile, database, into_file
from pipeline.photos.decode import EXTENSIONS, PHOTO_EXTENSIONS
from pipeline.rows import Row
from pipeline.storage import Entry, Store, split_uri
from supir_core.errors import InputError

CAPTION_SUFFIX = ".txt"
LISTS = (".csv", ".jsonl", ".parquet")
_WRITTEN_OUT = re.compile("(%(25)*2E)+|%(25)*2F")  # by `safe_path`, or as if
LIST_COLUMNS = ("uri", "photo_id", "caption", "source_version", "source_bytes", "sidecar", "prompt", "preset")


LISTED = pa.schema(
    [
        ("path", pa.string()),  # below the folder
        ("kind", pa.string()),  # see `_kind`
        ("stem", pa.string()),  # the path without its extension
        ("place", pa.string()),  # see `safe_path`
        ("version", pa.string()),
        ("bytes", pa.int64()),
    ]
)
"""What a listing says of a file."""

_FROM_LISTING = """
    select path as photo_id, $root || '/' || path as uri, place as path, version as source_version,
           bytes as source_bytes, null::varchar as caption,
           case when beside.text is not null then $root || '/' || beside.text
                when after.text is not null then $root || '/' || after.text else '' end as sidecar,
           null::varchar as prompt, null::varchar as preset, null::varchar as edited, null::varchar[] as looks
    from listed
    left join (select path as text from listed where kind = $text) beside on beside.text = stem || $text
    left join (select path as text from listed where kind = $text) after on after.text = listed.path || $text
    where list_contains($photos, kind)
"""

_IGNORED = """
    select kind, count(*) from listed
    where not list_contains($photos, kind) and path not in (
        select unnest([stem || $text, path || $text]) from listed where list_contains($photos, kind))
    group by kind order by kind
"""


@dataclass(frozen=True)
class Manifest:
    """The photos of a run."""

    photos: TableFile  # rows.MANIFEST, sorted by photo_id; more than one row for a photo that is listed for two presets
    ignored: dict[str, int]  # files of the folder that are neither photos nor captions, by extension
    others: dict[str, int]  # photos that a list names another preset for, by its name

    @cached_property
    def num_photos(self) -> int:
        """How many photos there are, each counted once."""
        with database(photos=self.photos) as connection:
            counted = connection.execute("select count(distinct md5_number(photo_id)) from photos").fetchone()
        return int(counted[0]) if counted else 0


def read_manifest(
    source: str, limit: int | None = None, presets: Sequence[str] | None = None, only: str | None = None
) -> Manifest:
    """The photos of a folder, prefix, single photo or list; of any number, as they are never in memory together.

    Args:
        source: a path or URI.
        limit: keep only the first photos, in the order of their ids.
        presets: leave out the photos that a list names others for.
        only: a text file with the ids of the photos to keep, one per line.

    Raises:
        InputError: nothing there (`no-photos`), a list that does not parse or an id that no photo has (`manifest`).
    """
    suffix = PurePosixPath(source).suffix.lower()
    ignored: dict[str, int] = {}
    if suffix in LISTS:
        found = _read_list(source, suffix)
    else:
        found, ignored = _list(source)
    if not found.num_rows:
        raise InputError(
            f"no photos in {source}",
            hint=f"photos end in {', '.join(EXTENSIONS)}; a list ends in {', '.join(LISTS)}",
            code="no-photos",
        )
    found = found if only is None else chosen(found, only)
    found, others = (found, {}) if presets is None else _of_presets(found, presets)
    return Manifest(_in_order(found, limit), ignored, others)


def merge_manifests(sources: Sequence[str]) -> Manifest:
    """One manifest of several folders, prefixes, photos or lists: every photo's id is its URI.

    Raises:
        InputError: as `read_manifest`.
    """
    merged, ignored = TableFile(rows.MANIFEST), Counter[str]()
    for source in sources:
        manifest = read_manifest(source)
        ignored.update(manifest.ignored)
        with database(photos=manifest.photos) as connection:
            by_uri = connection.sql("select * replace (uri as photo_id) from photos").to_arrow_reader(ROW_GROUP)
            for batch in by_uri:
                photos = [row | {"path": _place(row["uri"])} for row in batch.to_pylist()]
                merged.append(rows.table(photos, rows.MANIFEST))
    return Manifest(_in_order(merged, None), dict(ignored), {})


def chosen(found: TableFile, only: str) -> TableFile:
    """The photos whose ids stand in a text file, one per line.

    Raises:
        InputError: an id that none of them has, or no text (`manifest`).
    """
    store, name = split_uri(only)
    try:
        ids = [line for line in store.read(name).decode("utf-8-sig").splitlines() if line]
    except UnicodeDecodeError as error:
        raise InputError(f"{only} is not UTF-8", hint="it should hold a photo_id per line", code="manifest") from error
    with database(found=found) as connection:
        connection.register("chosen", pa.table({"photo_id": pa.array(ids, pa.string())}))
        unknown = connection.execute(
            "select photo_id from chosen where photo_id not in (select photo_id from found) limit 1"
        ).fetchone()
        if unknown:
            raise InputError(
                f"{only} names {unknown[0]!r}, which is no photo of the input",
                hint="it should hold a photo_id per line, as they stand in the index",
                code="manifest",
            )
        return into_file(
            connection.sql("select * from found where photo_id in (select photo_id from chosen)"), found.schema
        )


def _of_presets(found: TableFile, presets: Sequence[str]) -> tuple[TableFile, dict[str, int]]:
    """The photos that may have one of some presets, and the number of the others by theirs."""
    asked, mine = {"presets": list(presets)}, "(preset is null or list_contains($presets, preset))"
    with database(found=found) as connection:
        counted = f"select preset, count(*) from found where not {mine} group by preset order by preset"
        others = dict(connection.execute(counted, asked).fetchall())
        if others:
            found = into_file(connection.sql(f"select * from found where {mine}", params=asked), rows.MANIFEST)
    return found, others


def _in_order(found: TableFile, limit: int | None) -> TableFile:
    """The photos by their ids, each once (for each preset that it is listed for).

    Raises:
        InputError: two photos have one id, or would have their results in one place.
    """
    with database(found=found) as connection:
        photos = "found"
        if _repeated(connection, "photo_id"):
            _check_distinct(connection)
            photos = "(select distinct on (photo_id, preset) * from found)"
        if _repeated(connection, "path"):
            _check_apart(connection, photos)
        first = f"select distinct photo_id from found order by photo_id limit {limit}"
        cut = "" if limit is None else f"where photo_id in ({first})"
        return into_file(connection.sql(f"select * from {photos} {cut} order by photo_id, preset"), rows.MANIFEST)


def _repeated(connection: Any, column: str) -> bool:
    counted = f"select 1 from found group by md5_number({column}) having count(*) > 1 limit 1"
    return connection.execute(counted).fetchone() is not None


def _check_distinct(connection: Any) -> None:
    other = connection.execute(
        "select photo_id, min(uri), max(uri) from found group by photo_id having min(uri) != max(uri) limit 1"
    ).fetchone()
    if other:
        raise InputError(
            f"photo_id {other[0]!r} stands for {other[1]} and {other[2]}",
            hint="every photo needs an id of its own",
            code="manifest",
        )
    other = connection.execute(
        "select photo_id from found group by photo_id, preset having count(distinct (caption, prompt)) > 1 limit 1"
    ).fetchone()
    if other:
        raise InputError(
            f"photo_id {other[0]!r} is listed more than once, with different captions or prompts",
            hint="list a photo once, or give each line a photo_id of its own",
            code="manifest",
        )


def _check_apart(connection: Any, photos: str) -> None:
    other = connection.execute(
        f"select path, min(uri), max(uri) from {photos} group by path having count(distinct photo_id) > 1 limit 1"
    ).fetchone()
    if other:
        raise InputError(
            f"{other[1]} and {other[2]} would both be written to {other[0]}",
            hint="restore them in two runs with different outputs",
            code="manifest",
        )


def _list(source: str) -> tuple[TableFile, dict[str, int]]:
    store = Store(source)
    photos = TableFile(rows.MANIFEST)
    if store.is_file():
        store, name = split_uri(source)
        if _suffix(name) in PHOTO_EXTENSIONS:
            photos.append(rows.table([_photo(store, e) for e in store.entries(name) if e.path == name], rows.MANIFEST))
        return photos, {}
    if not store.exists():
        raise InputError(f"{source} does not exist", hint="check the path or URI after --input", code="not-found")
    listed = TableFile(LISTED)
    for page in store.pages():
        listed.append(pa.Table.from_pylist([_listed(entry) for entry in page], LISTED))
    kinds = {"photos": sorted(PHOTO_EXTENSIONS), "text": CAPTION_SUFFIX}
    with database(listed=listed) as connection:
        found = connection.sql(_FROM_LISTING, params={**kinds, "root": store.uri()})
        return into_file(found, rows.MANIFEST), dict(connection.execute(_IGNORED, kinds).fetchall())


def _listed(entry: Entry) -> Row:
    kind, path = _kind(entry.path), entry.path
    if not _is_text(path):
        path = path.encode(errors="replace").decode()
    stem = path.removesuffix(PurePosixPath(path).suffix)
    return {
        "path": path,
        "kind": kind,
        "stem": stem,
        "place": safe_path(path),
        "version": entry.version,
        "bytes": entry.size_bytes,
    }


def _is_text(path: str) -> bool:
    """Whether a name can be written anywhere; file systems hold names that are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(path: str) -> str:
    """A file's extension, or what sets it apart from photos."""
    if not _is_text(path):
        return "with a name that is not UTF-8"
    if any(
        part.startswith(".") and part.strip(".") for part in path.split("/")
    ):  # such as the ._ twins that macOS leaves
        return "hidden"
    return _suffix(path) or "without extension"


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def caption_paths(path: str) -> list[str]:
    """Where the caption of a photo may lie beside it: `photo.txt`, then `photo.jpg.txt`."""
    return [path.removesuffix(PurePosixPath(path).suffix) + CAPTION_SUFFIX, path + CAPTION_SUFFIX]


def _photo(store: Store, entry: Entry) -> Row:
    """One photo of which nobody has looked for a caption."""
    return {
        "photo_id": entry.path,
        "uri": store.uri(entry.path),
        "path": safe_path(entry.path),
        "source_version": entry.version,
        "source_bytes": entry.size_bytes,
    }


def _read_list(source: str, suffix: str) -> TableFile:
    store, name = split_uri(source)
    photos = TableFile(rows.MANIFEST)
    try:
        with store.open(name) as file:
            for batch in _batches(file, suffix):
                if "uri" not in batch.schema.names:
                    raise InputError(
                        f"{source} has no column uri, but {', '.join(batch.schema.names)}",
                        hint="columns, by commas in a .csv: uri, and if you like photo_id, caption, prompt, preset",
                        code="manifest",
                    )
                known = [column for column in LIST_COLUMNS if column in batch.schema.names]
                listed = [_from_list(row, store.uri(), source) for row in batch.select(known).to_pylist()]
                photos.append(rows.table(listed, rows.MANIFEST))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} does not parse: {error}", code="manifest") from error
    return photos


def _batches(file: Any, suffix: str) -> Iterator[pa.RecordBatch]:
    """A list, piece by piece."""
    if suffix == ".parquet":
        yield from pa.parquet.ParquetFile(file).iter_batches()
    elif suffix == ".csv":
        text = pa.csv.ConvertOptions(column_types=dict.fromkeys(LIST_COLUMNS, pa.string()))
        yield from pa.csv.open_csv(file, convert_options=text)
    else:
        yield from pa.json.open_json(file)


def _from_list(row: Row, folder: str, source: str) -> Row:
    uri = row["uri"]
    if not isinstance(uri, str) or PurePosixPath(uri).name in ("", ".."):
        raise InputError(f"{source} has a row without a uri", code="manifest")
    relative = "://" not in uri and not uri.startswith("/")
    own_id = "" if row.get("photo_id") is None else str(row["photo_id"])
    size = row.get("source_bytes")
    return {
        "photo_id": own_id or uri,
        "uri": f"{folder}/{uri}" if relative else uri,
        "path": _place(uri),
        "caption": _text_of(row, "caption"),
        "source_version": str(row.get("source_version") or ""),  # else the photo's id stands for its content
        "source_bytes": int(size) if size else None,
        "sidecar": row.get("sidecar"),
        "prompt": _text_of(row, "prompt"),
        "preset": _text_of(row, "preset"),
    }


def _text_of(row: Row, column: str) -> str | None:
    return None if row.get(column) in (None, "") else str(row[column])


def _place(uri: str) -> str:
    """Where the results of a photo of a list go."""
    return safe_path(uri.partition("://")[2] or uri.lstrip("/"))


def safe_path(path: str) -> str:
    """A relative path that stays where it is put, whatever the key was: empty, `.` and `..` parts are written out.

    Keys that look written out are written out once more, so that no two have one path.
    """
    return "/".join(map(_safe_part, path.split("/")))


def _safe_part(part: str) -> str:
    if not part.strip("."):
        return "%2E" * len(part) or "%2F"
    return part.replace("%", "%25") if _WRITTEN_OUT.fullmatch(part) else part


def read_caption(data: bytes) -> str:
    """The text of a caption file as one line: UTF-8, UTF-16 with its mark, or what Windows wrote before.

    Raises:
        ValueError: it is no text.
    """
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            break
    else:
        text = "\0"
    if "\0" in text:
        raise ValueError("the caption file is neither UTF-8 nor UTF-16 nor Windows-1252")
    return " ".join(io.StringIO(text).read().split())
