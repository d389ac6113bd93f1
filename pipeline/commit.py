"""One photo's result into the store: the picture, then its record. A record is the proof that a photo is done.

Both go to places that the photo and the look decide, so a retry writes the same bytes again and never a second copy.
"""

from __future__ import annotations

import datetime
import hashlib
import json

from pipeline import rows
from pipeline.photos.encode import FORMATS
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import PhotoError, StorageError


def image_path(look: str, path: str, format_name: str) -> str:
    """`images/<look>/<the photo's path with its extension>.<png|jpg|webp|tif>`."""
    return f"images/{look}/{path}.{FORMATS[format_name].extension}"


def record_path(look: str, path: str) -> str:
    """`records/<look>/<the photo's path>.json`."""
    return f"records/{look}/{path}.json"


def find(store: Store, look: str, path: str, same: Row) -> Row | None:
    """The record at a photo's place, if it has the values of `same`: it is of this version and model.

    Raises:
        PhotoError: it is another photo's (`output-taken`).
        StorageError: it cannot be read.
    """
    data = store.read_if_any(record_path(look, path))
    if data is None:
        return None
    try:
        row: Row = json.loads(data)
        row["finished_at"] = datetime.datetime.fromisoformat(row["finished_at"])
        theirs = row["photo_id"]
    except (ValueError, KeyError, TypeError) as error:
        uri = store.uri(record_path(look, path))
        raise StorageError(f"{uri} is not a record: {error}", hint="delete it to restore the photo again") from error
    if theirs != same["photo_id"]:
        raise PhotoError(
            f"the result of photo_id {theirs!r} lies where this one's would",
            hint="give another --output; a photo that has changed is restored again with --redo",
            code="output-taken",
        )
    return row if all(row.get(name) == value for name, value in same.items()) else None


def commit(store: Store, look: str, path: str, row: Row, picture: bytes | None) -> None:
    """Write the picture, then the record; `row` gets `image`, `bytes` and `sha256`."""
    if picture is not None:
        row["image"] = image_path(look, path, row["format"])
        row["bytes"], row["sha256"] = len(picture), hashlib.sha256(picture).hexdigest()
        store.write(row["image"], picture)
    text = json.dumps({name: row.get(name) for name in rows.INDEX.names}, default=_plain, indent=1, ensure_ascii=False)
    store.write(record_path(look, path), text.encode())


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong into a record")
