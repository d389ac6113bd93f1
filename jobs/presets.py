"""`supir presets`: what is shipped, and what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from supir_core.presets import Preset, load_preset, names, shipped_text
from supir_core.strict import OFF


def show_all(as_json: bool) -> None:
    """A line per shipped preset."""
    shipped = [load_preset(name) for name in names()]
    if as_json:
        sys.stdout.write(json.dumps([_facts(preset) for preset in shipped]) + "\n")
        return
    table = Table("preset", "tau_r", "guidance", "steps", "digest", "purpose", box=None, header_style="bold")
    for preset in shipped:
        facts = _facts(preset)
        table.add_row(*(str(facts[key]) for key in ("name", "tau_r", "guidance", "steps", "digest", "purpose")))
    Console().print(table)
    Console().print("tau_r: LARGER is WEAKER; 0.5 stays close to the photo, 4 is freer, off is free.", style="dim")


def _facts(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "tau_r": OFF if preset.pull.tau_r is None else preset.pull.tau_r,
        "guidance": f"{preset.guidance.start:g} -> {preset.guidance.end:g}",
        "steps": preset.sampling.num_steps,
        "digest": preset.digest,
        "purpose": preset.purpose,
    }


def show(name: str, changes: Sequence[str], as_json: bool) -> None:
    """One preset with changes applied."""
    preset = load_preset(name, changes)
    values = preset.to_dict()
    if as_json:
        sys.stdout.write(json.dumps({**values, "digest": preset.digest}) + "\n")
        return
    if name in names() and not changes:
        sys.stdout.write(f"# digest {preset.digest}\n{shipped_text(name)}")
        return
    lines = [f"# digest {preset.digest}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for section, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{section}]"] + [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    sys.stdout.write("\n".join(lines) + "\n")
