"""One photo's result into the store: the picture, then its record. A record is the proof that a photo is done.

Both go to places that the photo and the look decide. They are written only where nothing lies yet, or over what has
been looked at. So two workers with the same photo (one of them given up for dead, or of a run that was ended) come to
the same record, and it tells of the picture that lies there.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Callable

from pipeline import claims, replacing, rows
from pipeline.photos.encode import extension_of
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import PhotoError, StorageError

TRIES = 8  # of writing over what another worker has just written
WAIT_S = 10.0  # for the record of a picture that another worker has just written


def image_path(look: str, path: str, format_name: str, source_format: str | None = None) -> str:
    """`images/<look>/<the photo's path with its extension>.<png|jpg|webp|tif>`.

    Args:
        look: the folder of a preset.
        path: the photo's.
        format_name: what is asked for, which may be `keep`.
        source_format: the photo's, by Pillow's name, where that decides.
    """
    return f"images/{look}/{path}.{extension_of(format_name, source_format)}"


def record_path(look: str, path: str) -> str:
    """`records/<look>/<the photo's path>.json`."""
    return f"records/{look}/{path}.json"


def check_names(store: Store, look: str, path: str, format_name: str) -> None:
    """See that a photo's results can lie in the store.

    Raises:
        StorageError: a name would be too long (`name-too-long`).
    """
    for name in (image_path(look, path, format_name), record_path(look, path)):
        store.check_name(name)


def path_of(look: str, image: str) -> str:
    """The photo's path, of which `image_path` made this."""
    return image.removeprefix(f"images/{look}/").rpartition(".")[0]


def find(store: Store, look: str, path: str, photo_id: str) -> Row | None:
    """The record at a photo's place.

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
    if theirs != photo_id:
        raise PhotoError(
            f"the result of photo_id {theirs!r} lies where this one's would",
            hint="give another --output; a photo that has changed is restored again with --redo",
            code="output-taken",
        )
    return row


def commit(
    store: Store,
    look: str,
    path: str,
    row: Row,
    picture: bytes | None,
    stands: Callable[[Row], bool] = lambda found: False,
    wait_s: float = WAIT_S,
) -> Row:
    """Write the picture, then the record; the row that stands in the end: this one, or another worker's.

    Args:
        store: the output.
        look: the folder of a preset.
        path: the photo's.
        row: gets `image`, `bytes` and `sha256` of the picture.
        picture: None for a failed photo, or one whose row points at another's picture.
        stands: whether a record that is found there is as good as this one would be; else it is replaced.
        wait_s: how long to wait for the record of a picture that lies there without one.

    Raises:
        PhotoError: another photo's results lie there (`output-taken`).
        StorageError: the store cannot be read or written.
    """
    if picture is not None:
        row["image"] = image_path(look, path, row["format"], row.get("source_format"))
        row["bytes"], row["sha256"] = len(picture), _sha256(picture)
        theirs = _put_picture(store, look, path, row, picture, stands, wait_s)
        if theirs is not None:
            return theirs
    return _put_record(store, look, path, row, stands)


def _put_picture(
    store: Store,
    look: str,
    path: str,
    row: Row,
    picture: bytes,
    stands: Callable[[Row], bool],
    wait_s: float,
) -> Row | None:
    """Write the picture; a record, if one has turned up that stands."""
    tag = None
    for _ in range(TRIES):
        if store.write_if(row["image"], picture, tag):
            return None
        tag = store.tag(row["image"])
        lying = store.read_if_any(row["image"])
        if lying == picture:  # ours, whose answer was lost, or an earlier attempt's
            return None
        record = _record_of(store, look, path, row["photo_id"], lying, stands, wait_s)
        if record is not None and stands(record):
            return record
        if record is not None:
            _give_way(store, look, record, row)
    raise _contended(store, row["image"])


def _record_of(
    store: Store, look: str, path: str, photo_id: str, lying: bytes | None, stands: Callable[[Row], bool], wait_s: float
) -> Row | None:
    """The record of the picture that lies there: whoever has just written it may be about to write its record."""
    end = time.monotonic() + wait_s
    while True:
        record = find(store, look, path, photo_id)
        if record is not None and (stands(record) or lying is None or record.get("sha256") == _sha256(lying)):
            return record
        if time.monotonic() >= end:  # its writer has died
            return record
        time.sleep(min(0.5, wait_s / 10))


def _give_way(store: Store, look: str, old: Row, new: Row) -> None:
    """Before a finished picture is overwritten: nothing may go on pointing at it."""
    if old.get("image") == new["image"]:
        claims.withdraw(store, look, old)
        if old.get("source_version") == new.get("source_version"):  # nothing else would tell the next plan
            replacing.mark(store, look, [new["photo_id"]])


def _put_record(store: Store, look: str, path: str, row: Row, stands: Callable[[Row], bool]) -> Row:
    place = record_path(look, path)
    text = json.dumps({name: row.get(name) for name in rows.INDEX.names}, default=_plain, indent=1, ensure_ascii=False)
    data, tag = text.encode(), None
    for _ in range(TRIES):
        if store.write_if(place, data, tag):
            return row
        tag = store.tag(place)
        record = find(store, look, path, row["photo_id"])
        if record is None:
            continue
        if store.read_if_any(place) == data:  # ours, whose answer was lost
            return row
        if stands(record) and _agrees(store, record, row):
            return record
    raise _contended(store, place)


def is_true(store: Store, record: Row) -> bool:
    """Whether the picture that lies in the store is the record's."""
    if record["status"] != rows.RESTORED:
        return True
    lying = store.read_if_any(record["image"])
    return lying is not None and _sha256(lying) == record["sha256"]


def _agrees(store: Store, record: Row, row: Row) -> bool:
    """Whether a record is right about what lies in the store, where this row's picture may have replaced its own."""
    if record["status"] != rows.RESTORED or row["status"] != rows.RESTORED:
        return bool(record["status"] == rows.RESTORED or row["status"] != rows.RESTORED)
    return bool(record["sha256"] == row["sha256"]) or is_true(store, record)


def _contended(store: Store, path: str) -> StorageError:
    return StorageError(f"{store.uri(path)} is being written by others", hint="run again later")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} does not belong into a record")
