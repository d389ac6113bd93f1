"""What a picture shows: each scene paints into a studio and says in a few words what it painted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from training import outlines
from training.canvas import Mask, filled, lettered
from training.details import words
from training.studio import Studio
from training.surfaces import Surface

MOST_SHAPES = 200  # of one picture


def leaves(studio: Studio, density: float = 1.0) -> list[str]:
    """Dead leaves: shapes that hide each other, their sizes after a power law (Lee et al., 2001).

    What lies far behind, or far before, the focus is blurred.
    """
    rng, size = studio.rng, studio.size
    names = list(outlines.OUTLINES)
    kinds = [names[i] for i in rng.permutation(len(names))[: rng.integers(1, 4)]]
    smallest, largest = np.exp(rng.uniform(np.log(1.5), np.log(9))) * size / 256, size * rng.uniform(0.2, 0.6)
    power = rng.uniform(1.8, 3.2)  # of the density of radii; 3 looks the same at every scale
    smallest, count = _count(size, smallest, largest, power, rng.uniform(1.5, 4.0) * density)
    _backdrop(studio)
    u = rng.random(count)
    a, b = smallest ** (1 - power), largest ** (1 - power)
    radii = (a + u * (b - a)) ** (1 / (1 - power))
    positions = rng.uniform(-0.05 * size, 1.05 * size, (count, 2))
    aperture = rng.choice([0.0, 0.0, rng.uniform(1, 5)]) * size / 256
    focus = rng.choice([0.5, 0.8, 1.0])  # in painting order, 0 is far
    for i, (radius, (x, y)) in enumerate(zip(radii, positions, strict=True)):
        if aperture and i == int(count * focus * 0.7):
            studio.canvas.blur(aperture)
        before = max(0.0, i / count - focus) / 0.5 if aperture else 0.0
        kind = kinds[rng.integers(len(kinds))]
        studio.place(outlines.OUTLINES[kind](rng), x, y, float(radius), softness_px=before * aperture * 1.5)
    layout = "overlapping" if len(kinds) > 1 or power < 2.6 else "many small"
    return [f"{layout} {kinds[0]}", *(["a blurred background"] if aperture else [])]


def _count(size: int, smallest: float, largest: float, power: float, cover: float) -> tuple[float, int]:
    """The smallest radius, and how many shapes cover the canvas `cover` times.

    Where that would be too many for the time a picture may take, the smallest ones grow.
    """
    while True:
        radii = np.geomspace(smallest, largest, 64)
        weight = radii ** (1 - power)  # per unit of log radius
        area = 2.5 * float((radii**2 * weight).sum() / weight.sum())
        count = max(12, int(cover * size * size / area))
        if count <= MOST_SHAPES:
            return smallest, count
        smallest *= 1.1


def _backdrop(studio: Studio) -> None:
    """A few large things far behind, so that no gap shows bare canvas."""
    rng, size = studio.rng, studio.size
    studio.wash()
    for _ in range(int(rng.integers(2, 9))):
        kind = list(outlines.OUTLINES.values())[rng.integers(len(outlines.OUTLINES))]
        x, y = rng.uniform(0, size, 2)
        studio.place(kind(rng), x, y, size * rng.uniform(0.2, 0.6))


def landscape(studio: Studio) -> list[str]:
    """Sky, clouds, hills one behind the other, a foreground of leaves or stones."""
    rng, size = studio.rng, studio.size
    studio.wash("sky", slope=(0.0, rng.uniform(0.0, 1.2) / size))
    if rng.random() < 0.6:
        cover = np.clip((studio.soft - rng.uniform(-0.3, 1.2)) * rng.uniform(0.4, 1.5), 0, 1)
        studio.canvas.paint(Mask(cover, 0, 0), Surface(studio.palette.color("cloud")), rng.uniform(0.3, 0.95))
    x = np.linspace(-2, size + 2, 96)
    level, layers = rng.uniform(0.3, 0.6) * size, int(rng.integers(2, 5))
    material = str(rng.choice(["foliage", "slate", "stone", "dry grass", "sand"]))
    for layer in range(layers):
        ridge = level + _ridge(rng, len(x)) * size * rng.uniform(0.02, 0.12)
        points = np.concatenate([np.stack([x, ridge], axis=1), [(size + 2, size + 2), (-2, size + 2)]])
        hill = studio.surface((size / 2, level), size / 3, material, textured=0.9, bulge=0.0)
        haze = np.exp(-1.2 * layer) * rng.uniform(0.1, 0.6)
        hazed = replace(hill, color=hill.color * (1 - haze) + studio.palette.color("sky") * haze)
        studio.canvas.paint(filled([points], size, 0.0 if layer else 0.6), hazed)
        level += rng.uniform(0.08, 0.25) * size
        if rng.random() < 0.3:
            material = str(rng.choice(["foliage", "foliage", "water", "dry grass", "stone"]))
    kind = outlines.blob if rng.random() < 0.5 else outlines.leaf
    for y in np.sort(rng.uniform(min(level, size) - 0.15 * size, 1.1 * size, int(rng.integers(0, 90)))):
        radius = rng.uniform(1.5, 9) * size / 256 * (0.4 + 1.2 * y / size)
        studio.place(kind(rng), rng.uniform(0, size), y, radius, material="foliage" if rng.random() < 0.8 else None)
    return ["a landscape with hills and sky"]


def _ridge(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) a line of hills: a sum of waves, the shorter the lower."""
    order = np.arange(1, 30)
    size = rng.normal(0, 1, 29) * order ** -rng.uniform(0.9, 1.8)
    x = np.linspace(0, 2 * np.pi, count)[:, None]
    return (size * np.sin(x * order * 0.7 + rng.uniform(0, 2 * np.pi, 29))).sum(axis=1)


def building(studio: Studio) -> list[str]:
    """A front with rows of windows below a sky, in slight perspective."""
    rng, size = studio.rng, studio.size
    studio.wash("sky", slope=(0.0, rng.uniform(0, 1.0) / size))
    left, right = rng.uniform(-0.3, 0.2) * size, rng.uniform(0.75, 1.3) * size
    top, bottom = rng.uniform(-0.2, 0.35) * size, rng.uniform(0.85, 1.2) * size
    lean = rng.normal(0, 0.12, 4)

    def corner(u: float, v: float) -> tuple[float, float]:
        """A point of the front, u and v in [0, 1]."""
        height = (bottom - top) * (1 + lean[0] * u)
        return left + (right - left) * (u + lean[1] * v * (u - 0.5)), top + lean[2] * size * u + height * v

    def quad(u: float, v: float, du: float, dv: float) -> np.ndarray:
        return np.array([corner(u, v), corner(u + du, v), corner(u + du, v + dv), corner(u, v + dv)])

    wall = str(rng.choice(["brick", "stone", "white", "slate"]))
    front = studio.surface((size / 2, size / 2), size / 2, wall, textured=0.9, bulge=0.0)
    studio.canvas.paint(filled([quad(0, 0, 1, 1)], size), front)
    columns, rows = int(rng.integers(2, 9)), int(rng.integers(2, 8))
    width, height = rng.uniform(0.3, 0.7) / columns, rng.uniform(0.4, 0.7) / rows
    frame, glass = studio.palette.color("white"), studio.palette.color("dark")
    cells = [((c + 0.5) / columns, (r + 0.55) / rows) for c in range(columns) for r in range(rows)]
    panes = [quad(u - width / 2, v - height / 2, width, height) for u, v in cells]
    offset = np.array([-studio.light[0], -studio.light[1]]) * size / 120
    studio.canvas.darken(filled([pane + offset for pane in panes], size, 0.8), 0.4)
    studio.canvas.paint(filled(panes, size), Surface(frame))
    across, down = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    w, h = width * 0.86 / across, height * 0.9 / down
    for u, v in cells:
        inner = [
            quad(u - width * 0.43 + i * w + w * 0.05, v - height * 0.45 + j * h + h * 0.05, w * 0.9, h * 0.9)
            for i in range(across)
            for j in range(down)
        ]
        tint = glass * rng.uniform(0.4, 2.5) + studio.palette.color("sky") * rng.choice([0, 0.2, 0.5])
        slope = (0.0, rng.normal(0, 1.5) / size)
        studio.canvas.paint(filled(inner, size), Surface(tint, studio.soft, 0.2, slope=slope, center=corner(u, v)))
    return [f"a building with {'many' if columns * rows > 12 else 'few'} windows"]


def page(studio: Studio) -> list[str]:
    """A printed page, poster or sign: lines of text and a few boxes."""
    rng, size = studio.rng, studio.size
    studio.wash("white" if rng.random() < 0.6 else None)
    ink = studio.palette.color("dark")
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, size, 2)
        studio.place(outlines.box(rng), x, y, size * rng.uniform(0.1, 0.35))
    y, slant = rng.uniform(-0.1, 0.2) * size, rng.normal(0, 2)
    while y < size:
        height = int(np.clip(np.exp(rng.uniform(np.log(7), np.log(40))) * size / 256, 6, 64))
        rows = int(rng.integers(1, 4 if height > 16 else 9))
        text = "\n".join(words(rng, int(size / height * rng.uniform(0.8, 2))) for _ in range(rows))
        color = ink if rng.random() < 0.7 else studio.palette.color()
        middle = y + rows * height * 0.6
        studio.canvas.paint(lettered(text, size, size / 2, middle, height, slant), Surface(color), rng.uniform(0.7, 1))
        y += rows * height * 1.25 + rng.uniform(0.2, 2) * height
    return ["a printed page of text"]


SCENES: dict[str, tuple[float, Callable[[Studio], list[str]]]] = {
    "leaves": (0.62, leaves),
    "landscape": (0.14, landscape),
    "building": (0.12, building),
    "page": (0.04, page),
}
