"""`supir runs`: the history of an output."""

from __future__ import annotations

from jobs.index import show_rows
from pipeline import history
from pipeline.storage import Store

SHOWN = ("run", "begun", "last_row", "todo", "restored", "failed", "megapixels", "photo_seconds", "preset", "model")


def show(output: str, as_json: bool) -> None:
    """Print a line per run, newest first; JSON has more columns."""
    found = history.runs(Store(output))
    if not as_json:
        found = [{name: row[name] for name in SHOWN} for row in found]
        for row in found:
            for name in ("begun", "last_row"):
                row[name] = f"{row[name]:%Y-%m-%d %H:%M:%S}" if row[name] else None
    show_rows(SHOWN, found, as_json)
