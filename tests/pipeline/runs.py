"""Short ways to run the flow in tests."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline import flow, index
from pipeline.captions.captioning import Captioning
from pipeline.manifest import read_manifest
from pipeline.plan import Plan, make_plan
from pipeline.restore_stage import LoadRestorer
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.models import model_digest
from supir_core.presets import load_preset
from tests.pipeline.pretend import Pretend

REPOSITORY = Path(__file__).parents[2]
TINY = ("sampling.num_steps=2", "size.min_size_px=64")
"""Changes to the demo preset that make it as small as it can be."""

_numbers = itertools.count(1)


def settings_for(source: str | Path, output: str | Path, **changes: Any) -> RunSettings:
    """Settings of a run with the demo model and the tiny preset."""
    values: dict[str, Any] = {
        "run": f"run-{next(_numbers):03d}",
        "input": str(source),
        "output": str(output),
        "presets": (load_preset("demo", TINY),),
        "captioning": Captioning(),
        "model": "demo",
        "model_digest": model_digest("demo"),
        "format": "png",
        "quality": None,
        "accept_damaged": False,
        "restore_all": False,
        "skip_if_sharper_than": None,
        "limit": None,
        "shard": None,
        "retry_failed": False,
        "retry_captions": False,
        "only": None,
        "redo": False,
        "latents": "none",
        "max_megapixels": 100.0,
        "photo_timeout_s": None,
        "address": None,
        "workers": 1,
        "gpus_per_worker": None,
        "photos_per_batch": 1,
        "tile_batch": 4,
        "device": "cpu",
        "dtype": None,
        "compiled": False,
        "allow_download": False,
        "allow_uris": (),
        "log_format": "text",
    }
    if "preset" in changes:
        changes["presets"] = (changes.pop("preset"),)
    return RunSettings(**{**values, **changes})


def plan_for(settings: RunSettings) -> Plan:
    """What a run with these settings has to do."""
    return make_plan(read_manifest(settings.input, settings.limit, settings.preset_names), settings)


def restore(settings: RunSettings, load: LoadRestorer | None = None) -> Plan:
    """Plan and run; the plan."""
    plan = plan_for(settings)
    if plan.todo.num_rows:
        flow.run(settings, plan.todo, load=load or Pretend())
    return plan


def view(output: str | Path) -> dict[str, Row]:
    """The rows of the view `photos`, by id; an id must stand there once."""
    found = index.query(Store(str(output)), "select * from photos order by photo_id").to_pylist()
    by_id = {row["photo_id"]: row for row in found}
    assert len(by_id) == len(found)
    return by_id


def raw_rows(output: str | Path) -> list[Row]:
    """Every row of every Parquet part, as it lies."""
    parts = sorted((Path(output) / "index").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]
