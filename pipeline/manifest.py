"""What is to be restored: a folder, an object-store prefix, one photo, or a CSV, JSONL or Parquet list of URIs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from pipeline import rows
from pipeline.photos.decode import EXTENSIONS, PHOTO_EXTENSIONS
from pipeline.rows import Row
from pipeline.storage import Entry, Store, split_uri
from supir_core.errors import InputError

CAPTION_SUFFIX = ".txt"
LISTS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Manifest:
    """The photos of a run."""

    photos: pa.Table  # rows.MANIFEST, sorted by photo_id
    ignored: dict[str, int]  # files of the folder that are neither photos nor captions, by extension


def read_manifest(source: str, limit: int | None = None) -> Manifest:
    """The photos of a folder, prefix, single photo or list.

    Args:
        source: a path or URI.
        limit: keep only the first photos, in the order of their ids.

    Raises:
        InputError: nothing there (`no-photos`), or a list that does not parse (`manifest`).
    """
    suffix = PurePosixPath(source).suffix.lower()
    ignored: dict[str, int] = {}
    if suffix in LISTS:
        photos = _read_list(source, suffix)
    else:
        photos, ignored = _list(source)
    if not photos:
        raise InputError(
            f"no photos in {source}",
            hint=f"photos end in {', '.join(EXTENSIONS)}; a list ends in {', '.join(LISTS)}",
            code="no-photos",
        )
    photos = _distinct(photos)
    return Manifest(rows.table(sorted(photos, key=_by_id)[:limit], rows.MANIFEST), ignored)


def _by_id(photo: Row) -> str:
    return str(photo["photo_id"])


def _list(source: str) -> tuple[list[Row], dict[str, int]]:
    store = Store(source)
    if store.is_file():
        store, name = split_uri(source)
        if _suffix(name) not in PHOTO_EXTENSIONS:
            return [], {}
        entries = [entry for entry in store.entries(name) if entry.path == name]
        return [_photo(store, entry, None) for entry in entries], {}
    if not store.exists():
        raise InputError(f"{source} does not exist", hint="check the path or URI after --input", code="not-found")
    entries = list(store.entries())
    captions = {entry.path for entry in entries if _suffix(entry.path) == CAPTION_SUFFIX}
    photos, others = [], []
    for entry in entries:
        if _kind(entry.path) in PHOTO_EXTENSIONS:
            sidecar = next((path for path in caption_paths(entry.path) if path in captions), "")
            photos.append(_photo(store, entry, sidecar))
        else:
            others.append(entry.path)
    used = {path for photo in photos for path in caption_paths(photo["photo_id"])}
    return photos, dict(Counter(_kind(path) for path in others if path not in used))


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
    if any(part.startswith(".") for part in path.split("/")):  # such as the ._ twins that macOS leaves
        return "hidden"
    return _suffix(path) or "without extension"


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def caption_paths(path: str) -> list[str]:
    """Where the caption of a photo may lie beside it: `photo.txt`, then `photo.jpg.txt`."""
    return [path.removesuffix(PurePosixPath(path).suffix) + CAPTION_SUFFIX, path + CAPTION_SUFFIX]


def _photo(store: Store, entry: Entry, sidecar: str | None) -> Row:
    return {
        "photo_id": entry.path,
        "uri": store.uri(entry.path),
        "path": safe_path(entry.path),
        "source_version": entry.version,
        "source_bytes": entry.size_bytes,
        "sidecar": store.uri(sidecar) if sidecar else sidecar,
    }


def _read_list(source: str, suffix: str) -> list[Row]:
    store, name = split_uri(source)
    data = pa.BufferReader(store.read(name))
    try:
        if suffix == ".csv":
            text = pa.csv.ConvertOptions(column_types=dict.fromkeys(("uri", "photo_id", "caption"), pa.string()))
            listed = pa.csv.read_csv(data, convert_options=text)
        elif suffix == ".jsonl":
            listed = pa.json.read_json(data)
        else:
            listed = pa.parquet.read_table(data)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source} does not parse: {error}", code="manifest") from error
    if "uri" not in listed.column_names:
        raise InputError(
            f"{source} has no column uri, but {', '.join(listed.column_names)}",
            hint="columns, separated by commas in a .csv: uri, and if you like photo_id and caption",
            code="manifest",
        )
    folder = store.uri()
    known = [column for column in ("uri", "photo_id", "caption") if column in listed.column_names]
    return [_from_list(row, folder, source) for row in listed.select(known).to_pylist()]


def _from_list(row: Row, folder: str, source: str) -> Row:
    uri = row["uri"]
    if not isinstance(uri, str) or PurePosixPath(uri).name in ("", ".."):
        raise InputError(f"{source} has a row without a uri", code="manifest")
    relative = "://" not in uri and not uri.startswith("/")
    own_id = "" if row.get("photo_id") is None else str(row["photo_id"])
    return {
        "photo_id": own_id or uri,
        "uri": f"{folder}/{uri}" if relative else uri,
        "path": safe_path(uri.partition("://")[2] or uri),
        "caption": None if row.get("caption") in (None, "") else str(row["caption"]),
        "source_version": "",  # nobody has looked; the photo's id stands for its content
        "sidecar": None,
    }


def safe_path(path: str) -> str:
    """A relative path that stays where it is put: no empty, `.` or `..` parts, whatever the key was."""
    parts = [part if part.strip(".") else "%2E" * len(part) for part in path.split("/") if part]
    return "/".join(parts)


def _distinct(photos: Iterable[Row]) -> list[Row]:
    """Photos without repeated rows.

    Raises:
        InputError: two photos have one id, or would have their results in one place.
    """
    by_id: dict[str, Row] = {}
    by_path: dict[str, Row] = {}
    for photo in photos:
        same = by_id.setdefault(photo["photo_id"], photo)
        if same["uri"] != photo["uri"]:
            raise InputError(
                f"photo_id {photo['photo_id']!r} stands for {same['uri']} and {photo['uri']}",
                hint="every photo needs an id of its own",
                code="manifest",
            )
        neighbour = by_path.setdefault(photo["path"], photo)
        if neighbour["photo_id"] != photo["photo_id"]:
            raise InputError(
                f"{neighbour['uri']} and {photo['uri']} would both be written to {photo['path']}",
                hint="restore them in two runs with different outputs",
                code="manifest",
            )
    return list(by_id.values())


def read_caption(data: bytes) -> str:
    """The text of a caption file as one line."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    return " ".join(io.StringIO(text).read().split())
