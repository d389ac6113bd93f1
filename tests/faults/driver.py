"""A run that can be killed or interrupted; starts a Ray of its own.

    python -m tests.faults.driver INPUT OUTPUT JOURNAL SECONDS [JSON]

JSON holds more settings under "settings", changes to the preset under "look", and more orders for the pretended
restorer under "pretend". The exit code is
0, or 130 for a run that was interrupted.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path

from pipeline import flow
from pipeline.lease import held
from pipeline.stopping import Stop
from pipeline.storage import Store
from supir_core.presets import load_preset
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import TINY, plan_for, settings_for


def main(source: str, output: str, journal: str, seconds: str, more: str = "{}") -> int:
    name = time.strftime("%H%M%S-") + secrets.token_hex(2)
    preset = load_preset("demo", [*TINY, *json.loads(more).get("look", [])])
    changes = {
        "photos_per_batch": 2,
        "gpus_per_worker": 0.0,
        "preset": preset,
        **json.loads(more).get("settings", {}),
    }
    settings = settings_for(source, output, run=name, **changes)
    load = Pretend(Path(journal), seconds=float(seconds), **json.loads(more).get("pretend", {}))
    stop = Stop()
    stop.say = lambda text: print(text, flush=True)
    try:
        with stop.listening(), held(Store(output), settings, stop.interrupt):
            todo = plan_for(settings).todo
            finished = not todo.num_rows or flow.run(settings, todo, load=load, stop=stop)
    except KeyboardInterrupt:
        return 130
    return 0 if finished else 130


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
