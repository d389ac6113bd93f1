"""Content that has been restored: which photo's picture stands for it.

A claim is a small object that says so; its name is the work that was done: the bytes of a photo, its caption, model,
look and format. Of several workers that have done the same work, the first one's claim stands. A claim proves nothing
by itself: whoever finds one looks at the record of the photo that it names.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from pipeline import rows
from pipeline.rows import Row
from pipeline.storage import Store


class Claim(NamedTuple):
    """The photo whose picture stands for some work."""

    photo_id: str
    path: str  # where its results go, relative
    run: str  # that restored it


def work_of(row: Row) -> str:
    """The name of the work that a row tells of: equal work gives equal pictures."""
    parts = [row[name] for name in ("source_sha256", "caption", "model_digest", "preset_digest", "format")]
    parts += [row["caption_source"] == rows.PROMPT, *(row.get("tile_captions") or ())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def find(store: Store, look: str, work: str) -> Claim | None:
    """Who has done this work, if anybody has."""
    data = store.read_if_any(_place(look, work))
    try:
        return Claim(**json.loads(data)) if data else None
    except (ValueError, TypeError):  # withdrawn, or not ours; the work will be done again
        return None


def make(store: Store, look: str, work: str, claim: Claim, over: Claim | None) -> None:
    """Say who has done the work, unless somebody else has said so since `over` was found.

    Args:
        store: the output.
        look: the folder of a preset.
        work: as `work_of` names it.
        claim: the photo whose picture has been written.
        over: what `find` said, of which it is known that it does not hold.
    """
    place, text = _place(look, work), json.dumps(claim._asdict(), ensure_ascii=False).encode()
    if over is None and store.write_if(place, text, None):
        return
    for _ in range(2):  # the second time if what was found has been withdrawn since
        tag = store.tag(place)
        if find(store, look, work) not in (over, None) or store.write_if(place, text, tag):
            return


def withdraw(store: Store, look: str, row: Row) -> None:
    """End the claim that names this row's photo for this row's work, before its picture is overwritten."""
    if row.get("source_sha256") is None:
        return
    place = _place(look, work_of(row))
    tag, claim = store.tag(place), find(store, look, work_of(row))
    if claim is not None and claim.photo_id == row["photo_id"]:
        store.write_if(place, b"{}", tag)  # not removed: another photo may be making its claim just now


def _place(look: str, work: str) -> str:
    return f"claims/{look}/{work[:2]}/{work}.json"  # no folder with millions of files
