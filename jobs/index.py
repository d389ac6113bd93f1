"""`supir index`: the answer to a query, as a table or as JSON; merging parts; whether the output is what it says."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import exits
from jobs.progress import counting
from pipeline import compact as compaction
from pipeline import index, verify
from pipeline.storage import Store
from supir_core.errors import InputError

OVERVIEW = """
    select preset, preset_digest, tau_r, status, error_code, count(*) as photos,
           round(sum(width::double * height) / 1e6, 2) as megapixels
    from photos group by all order by preset, preset_digest, status desc, photos desc
"""


def show(output: str, sql: str | None, as_json: bool) -> None:
    """Print the rows of a query."""
    answer = index.query(Store(output), sql or OVERVIEW)
    show_rows(answer.column_names, answer.to_pylist(), as_json)


def show_rows(names: Sequence[str], found: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as one JSON list."""
    if as_json:
        sys.stdout.write(json.dumps(found, default=_plain, ensure_ascii=False) + "\n")
        return
    table = Table(*names, header_style="bold", box=None)
    for row in found:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(f"{len(found)} rows", style="dim")


def compact(output: str, as_json: bool) -> None:
    """Merge the small parts of an index, and say what came of it."""
    start = time.monotonic()
    with counting("rows merged") as count:
        done = compaction.compact(Store(output), count)
    seconds = round(time.monotonic() - start, 2)
    if as_json:
        sys.stdout.write(json.dumps({**done._asdict(), "seconds": seconds}) + "\n")
        return
    sys.stdout.write(
        f"{done.parts_before} parts are now {done.parts_after}: {done.rows} rows, "
        f"{done.bytes_before / 1e6:.1f} MB before, {done.bytes_after / 1e6:.1f} MB after, {seconds} s\n"
    )


def check(output: str, fast: bool, ids: bool, as_json: bool) -> int:
    """Print every problem as it is found, then what was looked at; the exit code.

    Args:
        output: where.
        fast: as `verify.check` takes it.
        ids: print the ids of photos alone, each once, and the rest to stderr.
        as_json: print one JSON object.
    """
    if ids and as_json:
        raise InputError("--ids and --json do not go together", hint="the JSON has every problem's photo_id")
    printed = set[str]()
    start, store, counts = time.monotonic(), Store(output), Counter[str]()
    with Console(stderr=True).status("listing the output and reading the index"):
        stock = verify.take_stock(store)
    sys.stdout.write('{"problems": [' if as_json else "")
    with counting("objects checked") as count:
        for problem in verify.check(store, stock, fast, count):
            if ids:
                if problem.photo_id and problem.photo_id not in printed:
                    printed.add(problem.photo_id)
                    sys.stdout.write(problem.photo_id + "\n")
            elif as_json:
                separator = ", " if counts else ""
                sys.stdout.write(separator + json.dumps(problem._asdict(), ensure_ascii=False))
            else:
                _, path, photo_id, detail = (text.replace("\n", "\\n") for text in problem)
                sys.stdout.write("  ".join(filter(None, (f"{problem.what:17}", path, photo_id, detail))) + "\n")
            counts[problem.what] += 1
    facts = {
        "rows": stock.newest.num_rows,
        "pictures": stock.pictures.num_rows,
        "objects": stock.listed.num_rows,
        "fast": fast,
        "counts": dict(counts),
        "seconds": round(time.monotonic() - start, 2),
    }
    if as_json:
        sys.stdout.write("], " + json.dumps(facts)[1:] + "\n")
    else:
        found = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))
        (sys.stderr if ids else sys.stdout).write(
            f"{facts['rows']} rows, {facts['pictures']} pictures, {facts['objects']} objects, "
            f"{facts['seconds']} s: {found or 'all is as the index says'}"
            f"{' (sizes only; contents were not read)' if fast else ''}\n"
        )
    return exits.SOME_FAILED if counts else exits.DONE


def _plain(value: object) -> str | int | float:
    if isinstance(value, decimal.Decimal):  # DuckDB's sums
        return int(value) if value == int(value) else float(value)
    return value.isoformat() if isinstance(value, datetime.datetime | datetime.date) else str(value)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    return str(_plain(value)).replace("\n", "\\n")
