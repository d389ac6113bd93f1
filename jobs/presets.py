"""`supir presets`: what is shipped, and what is in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from supir_core.presets import Preset, differences, load_preset, names, shipped_text
from supir_core.strict import OFF

DIRECTION = (
    "tau_r: LARGER is WEAKER; 0.5 stays close to the photo, 4 is freer, off is free; to be compared within one sampler "
    "and number of steps alone. fidelity: LARGER is CLOSER, on any; tau_r follows from it."
)


def show_all(as_json: bool) -> None:
    """A line per shipped preset."""
    shipped = [load_preset(name) for name in names()]
    if as_json:
        sys.stdout.write(json.dumps([_facts(preset) for preset in shipped]) + "\n")
        return
    table = Table(
        "preset",
        "fidelity",
        "tau_r",
        "sampler",
        "guidance",
        "steps",
        "digest",
        "purpose",
        box=None,
        header_style="bold",
    )
    for preset in shipped:
        facts = _facts(preset)
        shown = ("name", "fidelity", "tau_r", "sampler", "guidance", "steps", "digest", "purpose")
        table.add_row(*("" if facts[key] is None else str(facts[key]) for key in shown))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(DIRECTION, style="dim")


def _facts(preset: Preset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "tau_r": OFF if preset.pull.tau_r is None else preset.pull.tau_r,
        "fidelity": preset.pull.fidelity,
        "sampler": preset.sampling.sampler,
        "guidance": f"{preset.guidance.start:g} -> {preset.guidance.end:g}",
        "steps": preset.sampling.num_steps,
        "digest": preset.digest,
        "purpose": preset.purpose,
    }


def diff(one: str, other: str, as_json: bool) -> None:
    """What sets two presets apart, key by key.

    Raises:
        PresetError: no such preset.
    """
    looks = [load_preset(one), load_preset(other)]
    apart = differences(looks)
    if as_json:
        sys.stdout.write(json.dumps(apart) + "\n")
        return
    if not apart:
        sys.stdout.write(f"{one} and {other} are one look\n")
        return
    table = Table("key", one, other, box=None, header_style="bold")
    for key, values in apart.items():
        table.add_row(key, *(Text(str(value)) for value in values))
    Console().print(table)
    if "pull.tau_r" in apart:
        Console().print(DIRECTION, style="dim")


def show(name: str, changes: Sequence[str], as_json: bool) -> None:
    """One preset with changes applied."""
    preset = load_preset(name, changes)
    values = preset.to_dict()
    if as_json:
        sys.stdout.write(json.dumps({**values, "digest": preset.digest}) + "\n")
        return
    head = [f"# digest {preset.digest}"]
    if preset.pull.fidelity is not None:
        head += [f"# tau_r {values['pull'].pop('tau_r')}, as pull.fidelity comes to on this schedule"]
    else:
        del values["pull"]["fidelity"]
    if name in names() and not changes:
        sys.stdout.write("\n".join([*head, shipped_text(name)]))
        return
    lines = head
    lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for section, table in values.items():
        if isinstance(table, dict):
            lines += ["", f"[{section}]"] + [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    sys.stdout.write("\n".join(lines) + "\n")
