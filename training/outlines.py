"""Closed outlines of unit size around the origin: (N, 2) float64, x to the right and y down."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def _angles(count: int) -> np.ndarray:
    return np.arange(count) * (2 * np.pi / count)


def _polar(angle: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    return np.stack([np.cos(angle) * radius, np.sin(angle) * radius], axis=1)


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """The points turned around the origin, in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([points[:, 0] * cos - points[:, 1] * sin, points[:, 0] * sin + points[:, 1] * cos], axis=1)


def disc(rng: np.random.Generator) -> np.ndarray:
    """A circle."""
    return _polar(_angles(48), 1.0)


def ellipse(rng: np.random.Generator) -> np.ndarray:
    """An ellipse in any direction."""
    return turned(_polar(_angles(48), 1.0) * (1, rng.uniform(0.25, 0.9)), rng.uniform(0, np.pi))


def box(rng: np.random.Generator) -> np.ndarray:
    """An upright rectangle."""
    aspect = np.exp(rng.uniform(-1.2, 1.2))
    return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.sqrt([aspect, 1 / aspect]) * 0.8


def card(rng: np.random.Generator) -> np.ndarray:
    """A rectangle in any direction."""
    return turned(box(rng), rng.uniform(0, np.pi))


def polygon(rng: np.random.Generator) -> np.ndarray:
    """Three to eight corners."""
    count = int(rng.integers(3, 9))
    angle = _angles(count) + rng.uniform(-0.35, 0.35, count) * 2 * np.pi / count
    return _polar(angle + rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1, count))


def blob(rng: np.random.Generator) -> np.ndarray:
    """A smooth round thing."""
    angle = _angles(64)
    order = np.arange(2, 7)
    size, phase = rng.normal(0, 0.32, 5) / order, rng.uniform(0, 2 * np.pi, 5)
    return _polar(angle, 1 + (size * np.cos(angle[:, None] * order + phase)).sum(axis=1))


def leaf(rng: np.random.Generator) -> np.ndarray:
    """Two arcs that meet in points."""
    x = np.linspace(-1, 1, 16)
    y = rng.uniform(0.15, 0.5) * (1 - x * x) * (1 - rng.uniform(-0.5, 0.5) * x)
    points = np.concatenate([np.stack([x, y], axis=1), np.stack([x[::-1], -y[::-1]], axis=1)])
    return turned(points, rng.uniform(0, 2 * np.pi))


def strip(rng: np.random.Generator) -> np.ndarray:
    """A long bent band."""
    x = np.linspace(-1.6, 1.6, 20)
    y = rng.normal(0, 0.25) * (x * x - 1) + rng.normal(0, 0.15) * np.sin(x * 3)
    width = rng.uniform(0.04, 0.2)
    points = np.concatenate([np.stack([x, y + width], axis=1), np.stack([x[::-1], y[::-1] - width], axis=1)])
    return turned(points, rng.uniform(0, 2 * np.pi))


OUTLINES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "round shapes": disc,
    "ovals": ellipse,
    "boxes": box,
    "cards": card,
    "angular shapes": polygon,
    "pebbles": blob,
    "leaves": leaf,
    "ribbons": strip,
}
