"""Two drivers at once over the two shards of one manifest: together all photos, each by one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pipeline import rows
from tests.faults.test_kill_driver import PATIENCE_S, REPOSITORY
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import plan_for, raw_rows, settings_for, view

PHOTOS = 24


def test_two_drivers_at_once_share_the_photos(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n) for n in range(PHOTOS)})
    drivers = []
    for shard in ("1/2", "2/2"):
        words = [tmp_path / "in", tmp_path / "out", tmp_path / shard[0], 0, json.dumps({"settings": {"shard": shard}})]
        command = [sys.executable, "-m", "tests.faults.driver", *map(str, words)]
        drivers.append(subprocess.Popen(command, cwd=REPOSITORY))
    assert [driver.wait(timeout=PATIENCE_S) for driver in drivers] == [0, 0]
    first, second = (set(Pretend(tmp_path / number).begun()) for number in "12")
    assert first and second and not first & second
    found = view(tmp_path / "out")
    assert set(found) == first | second and len(raw_rows(tmp_path / "out")) == PHOTOS
    assert {row["status"] for row in found.values()} == {rows.RESTORED}
    assert len({row["run"] for row in found.values()}) == 2
    assert plan_for(settings_for(tmp_path / "in", tmp_path / "out")).todo.num_rows == 0
