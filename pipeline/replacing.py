"""Photos whose picture is being replaced by a newer one of the same version, as `--redo` does.

Until the index has the newer row, its older one is wrong about the picture. A mark says so: whatever is killed in
between, the next plan takes the photo up again. The driver removes it when the index has the row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pipeline.storage import Store

FOLDER = "replacing"
AT_ONCE = 16  # marks that are written or removed


def mark(store: Store, look: str, photo_ids: Iterable[str]) -> None:
    """Before the pictures are overwritten."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda photo_id: store.write(_place(look, photo_id), photo_id.encode()), photo_ids))


def is_marked(store: Store, look: str, photo_id: str) -> bool:
    """Whether the picture may be newer than the photo's record, or is about to be."""
    return store.tag(_place(look, photo_id)) is not None


def marked(store: Store, look: str) -> list[str]:
    """The ids of all marked photos: few, as marks go when the index has the rows."""
    return [store.read(entry.path).decode() for entry in store.entries(f"{FOLDER}/{look}")]


def unmark(store: Store, look: str, photo_ids: Iterable[str]) -> None:
    """Once the index has their rows."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda photo_id: store.remove(_place(look, photo_id)), photo_ids))


def _place(look: str, photo_id: str) -> str:
    return f"{FOLDER}/{look}/{hashlib.sha256(photo_id.encode()).hexdigest()}"
