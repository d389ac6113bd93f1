"""Captions that models have written, in the output: nothing is captioned twice, in no look and after no crash.

An object per photo content and captioner. What a captioner is, its digest says: the model's files, the question, the
picture that is looked at, and how captions are cleaned.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from pipeline.storage import Store

FOLDER = "captions/written"


class Written(NamedTuple):
    """What a model has written about one photo."""

    text: str  # clean, of any length
    tiles: list[str]  # one per window of the preset's tiles, if asked for
    seconds: float
    tokens: int


def find(store: Store, digest: str, sha256: str) -> Written | None:
    """What a captioner has written about a photo's content, if anything."""
    data = store.read_if_any(_place(digest, sha256))
    try:
        return Written(**json.loads(data)) if data else None
    except (ValueError, TypeError):  # not ours; it will be written again
        return None


def keep(store: Store, digest: str, sha256: str, written: Written) -> None:
    """Write what a captioner has written; of several workers' equal answers the last one stays."""
    store.write(_place(digest, sha256), json.dumps(written._asdict(), ensure_ascii=False).encode())


def _place(digest: str, sha256: str) -> str:
    return f"{FOLDER}/{digest}/{sha256[:2]}/{sha256}.json"  # no folder with millions of files
