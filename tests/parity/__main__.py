"""`python -m tests.parity --golden DIR`: does this implementation reproduce the published code's numbers?

One line per tensor group (verdict, file, case, group, worst error / limit), then one JSON object as the last line.
Exit 0: all within the limits; 1: something is not, or was not looked at; 2: there is nothing to check.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from supir_core.errors import InputError
from tests.parity.report import Line, Report
from tests.parity.run import check_directory

DEFAULT = Path(__file__).parents[1] / "golden"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, metavar="DIR", default=DEFAULT, help="the data; tests/golden by default")
    parser.add_argument("--full", action="store_true", help="also the full-size text encoders (2.8 GB of weights)")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    parser.add_argument("--slack", type=float, default=1.0, metavar="X", help="times every limit; up to 3 elsewhere")
    options = parser.parse_args(arguments)

    def show(line: Line) -> None:
        if not options.json:
            print(line, flush=True)

    torch.set_num_threads(1)  # the summation order must not depend on the machine; the networks are tiny anyway
    started = time.monotonic()
    if not options.json:
        print(f"{'':8}{'file':17}{'case':24}{'group':18}{'error / limit':20}")
    try:
        report = check_directory(options.golden, full=options.full, slack=options.slack, on_line=show)
    except InputError as error:
        print(f"error[{error.code}]: {error}\nhint: {error.hint}", file=sys.stderr)
        return 2
    seconds = round(time.monotonic() - started, 1)
    if not options.json:
        print(_verdict(report))
    print(json.dumps({"golden": str(options.golden), **report.to_dict(), "seconds": seconds}, allow_nan=False))
    return 0 if report.ok else 1


def _verdict(report: Report) -> str:
    """All of it in a sentence."""
    tensors, failed = sum(line.tensors for line in report.lines), len(report.failures)
    differing = sum(line.status == "differs" for line in report.lines)
    skipped = sum(line.status == "skipped" for line in report.lines)
    text = f"{tensors} tensors compared, {failed} groups beyond their limits"
    text += f"; {differing} differ on purpose, for the reasons above" if differing else ""
    text += f"; {skipped} left out, for the reasons above" if skipped else ""
    return text + (f"; not in this folder: {', '.join(report.absent)}" if report.absent else "")


if __name__ == "__main__":
    sys.exit(main())
