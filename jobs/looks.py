"""Which looks a command asks for, and how they are named to people."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from supir_core import models
from supir_core.errors import PresetError
from supir_core.presets import Preset, derive, load_preset, sweep_values
from supir_core.strict import OFF


def choose_preset(preset: str | None, changes: Sequence[str], model: str) -> Preset:
    """The preset asked for, or the one that suits the model."""
    return load_preset(preset or ("demo" if model == models.DEMO_MODEL else "faithful"), changes)


def choose_looks(
    presets: Sequence[str], changes: Sequence[str], sweeps: Sequence[str], model: str
) -> tuple[Preset, ...]:
    """The looks of a run, each once: of every preset, one for each combination of the values of sweeps.

    Args:
        presets: names or files; the one that suits the model if there are none.
        changes: `section.key=value`, to all of them.
        sweeps: `section.key=value,value,...`.
        model: of the run.

    Raises:
        PresetError: a preset or value that there is not, or two presets of one look.
    """
    axes = [sweep_values(sweep) for sweep in sweeps]
    looks: dict[str, Preset] = {}
    for name in presets or (None,):
        base = choose_preset(name, changes, model)
        for values in itertools.product(*axes):
            look = derive(base, values)
            if looks.setdefault(look.digest, look).name != look.name:
                raise PresetError(
                    f"{looks[look.digest].name} and {look.name} are one look under two names",
                    hint="give one of them",
                )
    return tuple(looks.values())


def look_facts(preset: Preset) -> dict[str, Any]:
    """What tells a look from others, for scripts."""
    tau_r = OFF if preset.pull.tau_r is None else preset.pull.tau_r
    return {"preset": preset.name, "preset_digest": preset.digest, "tau_r": tau_r}


def described(preset: Preset) -> str:
    """The same in words."""
    return f"{preset.folder}: tau_r {look_facts(preset)['tau_r']}, {preset.sampling.num_steps} steps"
