"""The runs of an output: what each was asked for, from `runs/<run>/run.json`, and what it did, from the index."""

from __future__ import annotations

import datetime
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline import index, rows
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core import presets
from supir_core.errors import PresetError
from supir_core.presets import Preset

READERS = 16

_BY_RUN = f"""
    select run, count(distinct (photo_id, preset_digest)) filter (status = '{rows.RESTORED}') as restored,
           count(distinct (photo_id, preset_digest)) filter (status = '{rows.FAILED}') as failed,
           sum(seconds) as photo_seconds,
           sum(width::double * height) filter (status = '{rows.RESTORED}') / 1e6 as megapixels,
           min(finished_at) as first_row, max(finished_at) as last_row,
           string_agg(distinct preset || '-' || preset_digest, ', ') as preset, arg_max(model, finished_at) as model
    from every_row group by run
"""


def runs(store: Store) -> list[Row]:
    """One row per run, newest first; what is not known is None.

    `restored` and `failed` count the rows that the run has made, also those that a later run has replaced;
    `photo_seconds` adds up what each photo took, although several are worked on at once.

    Raises:
        InputError: there are neither runs nor an index (`no-index`).
    """
    asked = _asked(store)
    if not asked:
        index.check_exists(store)
    did = {row["run"]: row for row in index.read(store, _by_run)}
    return sorted(
        (_run(name, asked.get(name, {}), did.get(name, {})) for name in asked | did),
        key=lambda row: row["run"] or "",
        reverse=True,
    )


def _by_run(connection: Any) -> list[Row]:
    found: list[Row] = connection.sql(_BY_RUN).to_arrow_table().to_pylist()
    return found


def _asked(store: Store) -> dict[str, Row]:
    """What every `run.json` says, by the run's name; those that do not parse say nothing."""
    paths = [entry.path for entry in store.entries("runs") if entry.path.count("/") == 2]
    paths = [path for path in paths if path.endswith("/run.json")]
    with ThreadPoolExecutor(READERS) as readers:
        texts = list(readers.map(store.read_if_any, paths))
    return {path.split("/")[1]: _parsed(text) for path, text in zip(paths, texts, strict=True)}


def _parsed(text: bytes | None) -> Row:
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _run(name: str, asked: Row, did: Row) -> Row:
    look = ", ".join(f"{look['name']}-{digest}" for look, digest in _looks(asked)) or did.get("preset")
    return {
        "run": name,
        "begun": _begun(name) or did.get("first_row"),
        "last_row": did.get("last_row"),
        "todo": asked.get("todo"),
        "restored": did.get("restored", 0),
        "failed": did.get("failed", 0),
        "photo_seconds": did.get("photo_seconds"),
        "megapixels": did.get("megapixels"),
        "preset": look,
        "model": asked.get("model", did.get("model")),
        "input": asked.get("input"),
    }


def _looks(asked: Row) -> list[tuple[Row, str]]:
    return list(zip(asked.get("presets") or (), asked.get("preset_digests") or (), strict=False))


def _begun(name: str) -> datetime.datetime | None:
    """Runs are named by the second in which they began."""
    try:
        return datetime.datetime.strptime(name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=datetime.UTC)
    except ValueError:
        return None


def looks_of(store: Store, runs: set[str]) -> dict[str, Preset]:
    """The presets of runs, by digest, as far as they are written down and still parse."""
    found: dict[str, Preset] = {}
    for run in runs:
        try:
            asked = json.loads(store.read_if_any(f"runs/{run}/run.json") or b"")["presets"]
            found |= {preset.digest: preset for preset in map(presets.parse, asked)}
        except (ValueError, KeyError, TypeError, PresetError):
            continue
    return found
