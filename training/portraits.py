"""A scene: head and shoulders, made of ovals, with soft shading, before a blurred background."""

from __future__ import annotations

import numpy as np

from training.canvas import filled, stroked
from training.outlines import blob, turned
from training.scenes import leaves
from training.studio import Studio
from training.surfaces import Surface

ROUND = np.arange(40) * (2 * np.pi / 40)


def portrait(studio: Studio) -> list[str]:
    """Paint one face; most of it is ovals whose shades fade into each other."""
    rng, size = studio.rng, studio.size
    if rng.random() < 0.7:
        leaves(studio, density=0.4)
    else:
        studio.wash()
    studio.canvas.blur(rng.uniform(1, 7) * size / 256)
    radius = size * rng.uniform(0.13, 0.36)
    x, y = rng.uniform(0.35, 0.65) * size, rng.uniform(0.35, 0.55) * size
    tilt = rng.normal(0, 0.1)
    skin, hair, cloth = (studio.palette.color(name) for name in ("skin", "hair", "cloth"))
    skin = skin / skin.max() * rng.uniform(0.15, 0.75)

    def at(u: float, v: float) -> tuple[float, float]:
        """A point of the face in units of its radius."""
        px, py = turned(np.array([(u, v)]), tilt)[0] * radius + (x, y)
        return float(px), float(py)

    def oval(u: float, v: float, width: float, height: float) -> np.ndarray:
        points = np.stack([u + np.cos(ROUND) * width, v + np.sin(ROUND) * height], axis=1)
        return turned(points, tilt) * radius + (x, y)

    def put(points: np.ndarray, color: np.ndarray, soft: float = 0.0, opacity: float = 1.0, bulge: float = 0.0) -> None:
        surface = Surface(
            color,
            studio.soft if bulge else None,
            0.06,
            center=(float(points[:, 0].mean()), float(points[:, 1].mean())),
            radius=tuple((np.ptp(points, axis=0) * 0.62).tolist()),
            bulge=bulge,
            light=studio.light,
        )
        studio.canvas.paint(filled([points], size, soft * radius), surface, opacity)

    outfit = studio.surface(at(0, 2.4), radius * 2, "cloth", textured=0.8, bulge=0.3)
    mane = oval(0, -0.25 + rng.uniform(-0.1, 0.5), rng.uniform(0.85, 1.1), rng.uniform(1.1, 1.5))
    put(mane, hair, 0.03, bulge=0.5)
    put(oval(0, 1.2, 0.36, 0.75), skin * 0.75, 0.02)  # neck
    put(oval(0, 0.95, 0.5, 0.3), skin * 0.35, 0.1, 0.5)  # the chin's shadow
    studio.canvas.paint(filled([oval(0, 2.75, rng.uniform(1.5, 2.1), 1.25)], size, 0.02 * radius), outfit)
    put(oval(0, 0, rng.uniform(0.68, 0.8), 1.0), skin, 0.02, bulge=0.75)  # face
    for side in (-1, 1):
        put(oval(side * 0.35, 0.3, 0.2, 0.18), skin * (1.15, 0.75, 0.7), 0.1, 0.35)  # cheek
        put(oval(side * 0.3, -0.15, 0.22, 0.14), skin * 0.4, 0.06, 0.55)  # eye socket
        put(oval(side * 0.3, -0.12, 0.13, 0.065), np.full(3, 0.55) * skin.max(), 0.01)
        put(oval(side * 0.3, -0.12, 0.06, 0.06), cloth * 0.2, 0.005)
        put(oval(side * 0.3 - 0.02, -0.14, 0.015, 0.015), np.full(3, 0.9), 0.004)
        brow = np.array([at(side * 0.47, -0.3), at(side * 0.3, -0.38), at(side * 0.14, -0.32)])
        studio.canvas.paint(stroked([brow], size, max(1.0, radius * 0.06), 0.01 * radius), Surface(hair * 0.7))
    put(oval(0.06, 0.12, 0.09, 0.26), skin * 0.6, 0.06, 0.5)  # nose, in shadow and in light
    put(oval(-0.02, 0.1, 0.04, 0.2), skin * 1.3, 0.04, 0.5)
    put(oval(0.02, 0.28, 0.11, 0.04), skin * 0.35, 0.03, 0.6)
    lips = skin * (0.85, 0.4, 0.4)
    put(oval(0, 0.5, rng.uniform(0.2, 0.3), 0.08), lips, 0.02)
    studio.canvas.paint(stroked([np.array([at(-0.22, 0.5), at(0, 0.51), at(0.22, 0.5)])], size, 1), Surface(lips * 0.3))
    if rng.random() < 0.7:  # a fringe
        fringe = turned(blob(rng) * (0.8, rng.uniform(0.2, 0.4)) + (0, -0.85), tilt) * radius + (x, y)
        put(fringe, hair, 0.02, bulge=0.3)
    strands = [
        np.linspace(mane[i], oval(0, -0.3, 0.7, 0.8)[i], 8) + rng.normal(0, 0.03, 2) * radius for i in range(18, 40)
    ]
    strands = [strand + rng.normal(0, 0.01, (8, 2)).cumsum(axis=0) * radius for strand in strands]
    studio.canvas.paint(stroked(strands, size, 0.75), Surface(hair * rng.uniform(0.5, 1.6)), 0.5)
    return ["a portrait of a person"]
