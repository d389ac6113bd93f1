"""`supir index`: the answer to a query, as a table or as JSON."""

from __future__ import annotations

import datetime
import decimal
import json
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline import index
from pipeline.storage import Store

OVERVIEW = """
    select preset, preset_digest, tau_r, status, error_code, count(*) as photos,
           round(sum(width::double * height) / 1e6, 2) as megapixels
    from photos group by all order by preset, preset_digest, status desc, photos desc
"""


def show(output: str, sql: str | None, as_json: bool) -> None:
    """Print the rows of a query."""
    answer = index.query(Store(output), sql or OVERVIEW)
    found = answer.to_pylist()
    if as_json:
        sys.stdout.write(json.dumps(found, default=_plain, ensure_ascii=False) + "\n")
        return
    table = Table(*answer.column_names, header_style="bold", box=None)
    for row in found:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(f"{len(found)} rows", style="dim")


def _plain(value: object) -> str | int | float:
    if isinstance(value, decimal.Decimal):  # DuckDB's sums
        return int(value) if value == int(value) else float(value)
    return value.isoformat() if isinstance(value, datetime.datetime | datetime.date) else str(value)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    return str(_plain(value))
