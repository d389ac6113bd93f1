"""What lies over a scene: thin lines, letters, grass, swarms of small things.

`DETAILS` has what paints each one, and how often it is seen; each returns its words.
"""

from __future__ import annotations

import numpy as np

from training import outlines
from training.canvas import filled, lettered, stroked
from training.studio import Studio
from training.surfaces import Surface

SYLLABLES = [first + then for first in ("", *"bdfghklmnprstvz", "ch", "st") for then in (*"aeiou", "an", "er")]


def words(rng: np.random.Generator, length: int) -> str:
    """About `length` letters of words that mean nothing, some of them numbers or capitals."""
    found: list[str] = []
    while sum(map(len, found)) + len(found) < length:
        word = "".join(SYLLABLES[i] for i in rng.integers(len(SYLLABLES), size=rng.integers(1, 5)))
        style = rng.random()
        found.append(str(rng.integers(2000)) if style < 0.12 else word.upper() if style < 0.3 else word)
    return " ".join(found)


def lettering(studio: Studio) -> str:
    """One to three inscriptions."""
    rng, size = studio.rng, studio.size
    for _ in range(int(rng.integers(1, 4))):
        height = int(np.clip(np.exp(rng.uniform(np.log(8), np.log(56))) * size / 256, 6, 96))
        text = words(rng, int(rng.integers(2, 16)))
        x, y = rng.uniform(0.2, 0.8, 2) * size
        mask = lettered(text, size, x, y, height, rng.normal(0, 12), rng.choice([0.0, 0.0, 1.0]))
        studio.canvas.paint(mask, Surface(_contrasting(studio, x, y)), rng.uniform(0.75, 1))
    return "letters"


def _contrasting(studio: Studio, x: float, y: float) -> np.ndarray:
    """A colour that can be told from what lies at a point."""
    behind = studio.canvas.light[int(y), int(x)].mean()
    return studio.palette.color("white" if behind < 0.15 else "dark")


def curve(rng: np.random.Generator, start: np.ndarray, angle: float, length: float, bend: float) -> np.ndarray:
    """(24, 2) a smooth path of a length in pixels; its direction changes by about `bend` radians."""
    turn = np.cumsum(rng.normal(0, bend / 8, 24)) + np.linspace(0, rng.normal(0, bend), 24)
    steps = np.stack([np.cos(angle + turn), np.sin(angle + turn)], axis=1) * (length / 24)
    return start + np.cumsum(steps, axis=0)


def wires(studio: Studio) -> str:
    """A few long thin lines: wires, cracks, branches, outlines."""
    rng, size = studio.rng, studio.size
    angle, bend = rng.uniform(0, np.pi), rng.choice([0.0, 0.4, 1.5])
    for _ in range(int(rng.integers(1, 5))):
        paths = [
            curve(rng, rng.uniform(-0.2, 1.0, 2) * size, angle + rng.normal(0, 0.3), size * rng.uniform(0.3, 1.5), bend)
            for _ in range(int(rng.integers(1, 6)))
        ]
        width = np.exp(rng.uniform(np.log(0.6), np.log(4))) * max(1.0, size / 512)
        color = studio.palette.color(str(rng.choice(["dark", "white", "wood"])))
        studio.canvas.paint(stroked(paths, size, width), Surface(color), rng.uniform(0.5, 1))
    return "thin lines"


def grass(studio: Studio) -> str:
    """A tuft of many short lines: grass, fur, hair."""
    rng, size = studio.rng, studio.size
    center, spread = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(0.1, 0.4) * size
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.25) * size
    material = str(rng.choice(["foliage", "dry grass", "hair"]))
    for _ in range(4):
        paths = [
            curve(
                rng, center + rng.normal(0, spread, 2), angle + rng.normal(0, 0.35), length * rng.uniform(0.4, 1), 0.5
            )
            for _ in range(40)
        ]
        width = rng.uniform(0.7, 1.8)
        studio.canvas.paint(stroked(paths, size, width), Surface(studio.palette.color(material)), rng.uniform(0.6, 1))
    return "fine strands"


def lattice(studio: Studio) -> str:
    """A fence, a grille or a net: lines in two directions."""
    rng, size = studio.rng, studio.size
    pitch, width = np.exp(rng.uniform(np.log(7), np.log(40))), rng.uniform(0.7, 3)
    angle, both = rng.choice([0.0, np.pi / 4, rng.uniform(0, np.pi)]), rng.random() < 0.6
    center, reach = rng.uniform(0.2, 0.8, 2) * size, rng.uniform(0.2, 0.6) * size
    lines = []
    for offset in np.arange(-reach, reach, pitch):
        lines.append(np.array([(offset, -reach), (offset, reach)]))
        if both:
            lines.append(np.array([(-reach, offset), (reach, offset)]))
    color = studio.palette.color(str(rng.choice(["dark", "white", "slate"])))
    paths = [outlines.turned(line, angle) + center for line in lines]
    studio.canvas.paint(stroked(paths, size, width), Surface(color), rng.uniform(0.7, 1))
    return "a lattice"


def lights(studio: Studio) -> str:
    """Small bright points and out-of-focus lights."""
    rng, size = studio.rng, studio.size
    for _ in range(int(rng.integers(5, 40))):
        radius = np.exp(rng.uniform(np.log(0.7), np.log(8))) * size / 256
        x, y = rng.uniform(0, size, 2)
        color = studio.palette.color("white") * np.exp(rng.normal(0.3, 0.4)) * np.exp(rng.normal(0, 0.2, 3))
        points = outlines.disc(rng) * radius + (x, y)
        studio.canvas.paint(
            filled([points], size, radius * rng.choice([0, 0.15, 0.6])), Surface(color), rng.uniform(0.3, 1)
        )
    return "small lights"


def fragments(studio: Studio) -> str:
    """Swarms of small pieces: gravel, leaves, crumbs."""
    rng, size = studio.rng, studio.size
    shape = list(outlines.OUTLINES.values())[rng.integers(len(outlines.OUTLINES))]
    pieces = [shape(rng) for _ in range(12)]
    for _ in range(int(rng.integers(2, 6))):
        center, spread = rng.uniform(0, 1, 2) * size, rng.uniform(0.1, 0.35) * size
        radius = np.exp(rng.uniform(np.log(0.8), np.log(4))) * size / 256
        swarm = [
            outlines.turned(pieces[i % 12], rng.uniform(0, 6.3)) * radius * rng.uniform(0.5, 1.3)
            + center
            + rng.normal(0, spread, 2)
            for i in range(int(rng.integers(20, 90)))
        ]
        fall = -np.array(studio.light[:2]) * radius * 0.5
        if rng.random() < studio.shadows:
            studio.canvas.darken(filled([piece + fall for piece in swarm], size, radius * 0.2), 0.5)
        surface = studio.surface((float(center[0]), float(center[1])), spread, textured=0.9, bulge=0.0)
        studio.canvas.paint(filled(swarm, size), surface)
    return "scattered fragments"


DETAILS = {fragments: 0.35, lettering: 0.14, wires: 0.25, grass: 0.14, lattice: 0.1, lights: 0.1}
