"""Settings travel to workers as plain values, and lie in the output."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.presets import load_preset
from tests.pipeline.runs import settings_for


def test_they_come_back_from_json(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tmp_path / "out", preset=load_preset("demo", ["pull.tau_r=off"]))
    again = RunSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings
    assert again.preset.digest == settings.preset.digest


def test_they_are_saved_with_the_output(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tmp_path / "out")
    settings.save(Store(settings.output), photos=3)
    saved = json.loads((tmp_path / "out" / "runs" / settings.run / "run.json").read_text(encoding="utf-8"))
    assert (saved["photos"], saved["preset_digests"]) == (3, [settings.preset.digest])
