"""A run that can be killed: `python -m tests.faults.driver INPUT OUTPUT JOURNAL SECONDS`; starts a Ray of its own."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

from pipeline import flow
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import plan_for, settings_for


def main(source: str, output: str, journal: str, seconds: str) -> None:
    name = time.strftime("%H%M%S-") + secrets.token_hex(2)
    settings = settings_for(source, output, run=name, photos_per_batch=2, gpus_per_worker=0.0)
    todo = plan_for(settings).todo
    if todo.num_rows:
        flow.run(settings, todo, load=Pretend(Path(journal), seconds=float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
