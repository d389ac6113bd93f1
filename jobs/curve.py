"""`supir presets curve`: how hard each step of a preset pulls towards the photo, in the terminal and as a picture."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from pipeline.storage import Store, split_uri
from supir_core.errors import InputError
from supir_core.presets import Preset, load_preset
from supir_core.pull import Step, pull_steps
from supir_core.strict import OFF

DIRECTION = "k is how far a step pulls towards the photo, 0 to 1. A LARGER tau_r is a WEAKER pull."
ROWS = 26  # in the terminal; of longer schedules some steps are left out
BAR = 50  # characters
SIZE, MARGIN, FONT_PX = (960, 560), 70, 18
PAPER, INK, GRID = "white", "#222222", "#dddddd"
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")


def show(names: Sequence[str], settings: Sequence[str], to: str | None, as_json: bool) -> None:
    """Print the curves of presets, and draw them if asked to.

    Args:
        names: shipped presets or .toml files.
        settings: changes to all of them.
        to: a .png file.
        as_json: print one JSON object.

    Raises:
        InputError: no such preset, or another kind of picture (`format`).
    """
    curves = [(preset, pull_steps(preset.sampling, preset.pull.tau_r)) for preset in _loaded(names, settings)]
    if to is not None:
        store, name = split_uri(Store(to).uri())
        if not name.lower().endswith(".png"):
            raise InputError(f"{name} must end in .png", code="format")
        out = io.BytesIO()
        drawn(curves).save(out, "PNG")
        store.write(name, out.getvalue())
    if as_json:
        facts = [
            {"preset": preset.name, "tau_r": _tau_r(preset), "steps": [step._asdict() for step in steps]}
            for preset, steps in curves
        ]
        sys.stdout.write(json.dumps(facts) + "\n")
        return
    lines = [line for preset, steps in curves for line in (*_lines(preset, steps), "")]
    sys.stdout.write("\n".join([*lines, DIRECTION, *([f"drawn: {to}"] if to else [])]) + "\n")


def _loaded(names: Sequence[str], settings: Sequence[str]) -> list[Preset]:
    return [load_preset(name, settings) for name in names]


def _tau_r(preset: Preset) -> str:
    return OFF if preset.pull.tau_r is None else f"{preset.pull.tau_r:g}"


def _title(preset: Preset) -> str:
    sampling = preset.sampling
    return f"{preset.name}: tau_r {_tau_r(preset)}, {sampling.sampler}, {sampling.num_steps} steps"


def _lines(preset: Preset, steps: Sequence[Step]) -> list[str]:
    every = -(-len(steps) // ROWS)
    lines = [_title(preset), f"{'step':>4} {'sigma':>7} {'k':>6}"]
    for number, step in list(enumerate(steps, 1))[::every]:
        bar = "#" * round(step.strength * BAR)
        lines.append(f"{number:4} {step.sigma:7.3f} {step.strength:6.3f} {bar}".rstrip())
    return lines


def drawn(curves: Sequence[tuple[Preset, Sequence[Step]]]) -> Image.Image:
    """The strength k against the step as a share of all, so that schedules of different lengths can be compared."""
    picture = Image.new("RGB", SIZE, PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(FONT_PX)
    width, height = SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN

    def at(share: float, k: float) -> tuple[float, float]:
        return MARGIN + share * width, SIZE[1] - MARGIN - k * height

    for tick in (0, 0.25, 0.5, 0.75, 1.0):
        draw.line([at(0, tick), at(1, tick)], GRID)
        draw.line([at(tick, 0), at(tick, 1)], GRID)
        draw.text(at(-0.06, tick + 0.025), f"{tick:g}", INK, font)
        draw.text(at(tick - 0.02, -0.03), f"{tick:.0%}", INK, font)
    draw.text(at(0.4, -0.09), "step, of all steps", INK, font)
    draw.text((MARGIN, MARGIN / 3), DIRECTION, INK, font)
    for number, (preset, steps) in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        points = [at(i / max(1, len(steps) - 1), step.strength) for i, step in enumerate(steps)]
        draw.line(points, colour, width=3)
        for x, y in points:
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        draw.text(at(0.45, 0.97 - 0.06 * number), _title(preset), colour, font)
    return picture
