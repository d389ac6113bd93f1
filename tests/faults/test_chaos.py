"""The short form of chaos, with a process of its own around it: it starts and removes Ray's nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PHOTOS = 500
SEED = 2


def test_whatever_is_killed_every_photo_is_in_the_index_once_with_its_picture_or_a_reason() -> None:
    command = [sys.executable, "-m", "tests.faults.chaos", "--short", "--photos", str(PHOTOS), "--seed", str(SEED)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["lost"] == facts["twice"] == facts["wrong_sha256"] == facts["unproved"] == 0 and not facts["broken"]
    assert facts["restored"] + sum(facts["failed"].values()) == PHOTOS * facts["looks"]
    assert set(facts["failed"]) <= {"empty", "corrupt", "damaged", "timed-out", "worker-crashed"}
    assert facts["failed"]["worker-crashed"] == facts["looks"], "the poisoned photo, and no other"
    for what in ("restore worker", "driver", "node", "node back"):
        assert facts["killed"].get(what), f"{what}: {facts['killed']}"
