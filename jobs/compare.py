"""`supir compare`: all looks of one photo on one labelled sheet."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

from PIL import Image

from pipeline import history, index, rows
from pipeline.photos.decode import decode
from pipeline.rows import Row
from pipeline.sheet import Cell, contact_sheet
from pipeline.storage import Store, split_uri
from supir_core.errors import InputError, SupirError
from supir_core.presets import differences
from supir_core.strict import OFF

SHEETS = "sheets"

_LOOKS = f"""
    select * from photos where photo_id = '{{photo_id}}' and status = '{rows.RESTORED}'
    order by tau_r nulls last, preset, preset_digest
"""


def compare(output: str, photo_id: str, to: str | None, as_json: bool) -> None:
    """Write the sheet of a photo, and say what is on it.

    Args:
        output: of earlier runs.
        photo_id: as it stands in the index.
        to: a path or URI ending in .png or .jpg; `<output>/sheets/<path of the photo>.png` if not given.
        as_json: print one JSON object.

    Raises:
        InputError: no index (`no-index`), or no restored look of such a photo (`no-photos`).
        StorageError: a picture cannot be read, or the sheet not written.
    """
    store = Store(output)
    found = index.query(store, _LOOKS.format(photo_id=photo_id.replace("'", "''"))).to_pylist()
    if not found:
        raise InputError(
            f"{store.uri()} has no restored look of a photo {photo_id!r}",
            hint="supir index OUTPUT --sql \"select photo_id from photos where status = 'restored'\" names them",
            code="no-photos",
        )
    place, name = (store, f"{SHEETS}/{found[0]['path']}.png") if to is None else split_uri(Store(to).uri())
    kind = Image.registered_extensions().get("." + name.rpartition(".")[2].lower())
    if kind not in ("PNG", "JPEG"):
        raise InputError(f"{name} must end in .png or .jpg", code="format")
    cells = [*_original(found[0]), *_cells(store, found)]
    out = io.BytesIO()
    contact_sheet(cells).save(out, kind)
    place.write(name, out.getvalue())
    facts = {"sheet": place.uri(name), "photo_id": photo_id, "looks": [list(cell.label) for cell in cells]}
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return
    lines = [f"{' | '.join(cell.label)}" for cell in cells]
    sys.stdout.write("\n".join([*lines, f"{facts['sheet']}"]) + "\n")


def _original(row: Row) -> list[Cell]:
    """The photo itself, if it is still where it was."""
    try:
        store, name = split_uri(row["source_uri"])
        picture = Image.fromarray(decode(store.read(name)).pixels)
    except SupirError:
        return []
    return [Cell([row["photo_id"], "the photo", f"{picture.width} x {picture.height}"], picture)]


def _cells(store: Store, found: list[Row]) -> list[Cell]:
    known = history.looks_of(store, {row["run"] for row in found})
    looks = [known[row["preset_digest"]] for row in found if row["preset_digest"] in known]
    apart = differences(looks) if len(looks) == len(found) else {}
    short = {key: values for key, values in apart.items() if not key.startswith(("text.", "pull."))}
    cells = []
    for number, row in enumerate(found):
        tau_r = OFF if row["tau_r"] is None else f"{row['tau_r']:g}"
        settings = ", ".join(f"{key} {values[number]}" for key, values in short.items())
        label = [f"{row['preset']}  tau_r {tau_r}", _closeness(row), settings or row["preset_digest"]]
        cells.append(Cell(label, Image.fromarray(decode(store.read(row["image"])).pixels)))
    return cells


def _closeness(row: dict[str, Any]) -> str:
    if row["fidelity_db"] is None:
        return "closeness not measured"
    return f"{row['fidelity_db']:.1f} dB, colours {row['fidelity_de']:.1f} dE"
