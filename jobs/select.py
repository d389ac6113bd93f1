"""`supir select`: one look of every photo, by a rule, into a folder of its own."""

from __future__ import annotations

import json
import sys
from collections import Counter

from jobs.progress import counting
from pipeline import selection
from pipeline.selection import LIST
from pipeline.storage import Store
from supir_core.errors import InputError


def select(output: str, rule: str, to: str, link: bool, dry: bool, as_json: bool) -> None:
    """Choose, copy, and say what was chosen.

    Args:
        output: of earlier runs.
        rule: as `selection.choose` takes it.
        to: a folder or prefix.
        link: make symbolic links instead of copies.
        dry: only say what would be chosen.
        as_json: print one JSON object.

    Raises:
        SupirError: as `selection.choose` and `selection.export`; the folder is the output or lies in it
            (`output-in-input`).
    """
    store, place = Store(output), Store(to)
    if (place.uri() + "/").startswith(store.uri() + "/"):
        raise InputError(
            f"{place.uri()} lies inside the output", hint="choose a folder beside it", code="output-in-input"
        )
    found = selection.choose(store, rule)
    if not dry:
        with counting("pictures") as count:
            selection.export(store, found.chosen, place, link, count)
    looks = Counter[str]()
    for some in found.chosen.rounds(selection.PER_ROUND):
        looks.update(f"{row['preset']}-{row['preset_digest']}" for row in some.to_pylist())
    facts = {"chosen": found.chosen.num_rows, "without": found.without, "looks": dict(looks.most_common())}
    if as_json:
        sys.stdout.write(json.dumps({**facts, "folder": place.uri(), "list": place.uri(LIST)}) + "\n")
        return
    lines = [f"{count:8}  {look}" for look, count in looks.most_common()]
    lines += [f"{found.without:8}  have no look that meets the rule"] if found.without else []
    lines.append("nothing was copied" if dry else f"{place.uri()}: {facts['chosen']} pictures, listed in {LIST}")
    sys.stdout.write("\n".join(lines) + "\n")
