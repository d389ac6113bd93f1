"""Colours as photos have them: a few materials a picture, varied mostly in lightness, under one light."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Material(NamedTuple):
    """Ranges of a material's colour: hue in degrees, saturation and value in [0, 1] (HSV of sRGB)."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]


MATERIALS = {
    "sky": Material((198, 226), (0.08, 0.6), (0.55, 0.97)),
    "cloud": Material((190, 240), (0.0, 0.08), (0.75, 1.0)),
    "foliage": Material((58, 140), (0.2, 0.7), (0.1, 0.55)),
    "dry grass": Material((38, 62), (0.2, 0.55), (0.3, 0.75)),
    "skin": Material((12, 30), (0.22, 0.6), (0.3, 0.95)),
    "hair": Material((15, 40), (0.1, 0.6), (0.05, 0.55)),
    "stone": Material((20, 55), (0.02, 0.2), (0.2, 0.8)),
    "slate": Material((195, 235), (0.03, 0.2), (0.15, 0.6)),
    "brick": Material((5, 25), (0.3, 0.65), (0.3, 0.7)),
    "wood": Material((18, 38), (0.3, 0.65), (0.15, 0.65)),
    "sand": Material((30, 48), (0.12, 0.4), (0.55, 0.92)),
    "water": Material((175, 215), (0.15, 0.6), (0.15, 0.65)),
    "dark": Material((0, 360), (0.0, 0.3), (0.02, 0.18)),
    "white": Material((25, 60), (0.0, 0.1), (0.75, 1.0)),
    "cloth": Material((0, 360), (0.1, 0.6), (0.15, 0.8)),
    "paint": Material((0, 360), (0.4, 0.85), (0.3, 0.9)),
}

PLACES = {
    "outdoors": ("sky", "foliage", "foliage", "stone", "dry grass", "water", "cloud", "dark"),
    "woodland": ("foliage", "foliage", "wood", "dark", "dry grass", "stone"),
    "shore": ("sky", "sand", "water", "stone", "white", "slate"),
    "town": ("stone", "slate", "brick", "white", "sky", "dark", "paint"),
    "indoors": ("wood", "cloth", "white", "stone", "skin", "dark", "cloth"),
    "people": ("skin", "cloth", "hair", "cloth", "white", "dark"),
    "market": ("paint", "cloth", "wood", "foliage", "white", "stone"),
    "night": ("dark", "dark", "slate", "water", "brick", "paint"),
}


class Palette:
    """The colours of one picture.

    Args:
        rng: drawn from whenever a colour is asked for.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.place = str(rng.choice(list(PLACES)))
        some = rng.permutation(len(PLACES[self.place]))[: rng.integers(3, 6)]
        self.materials = [PLACES[self.place][i] for i in some]
        self._muted = rng.uniform(0.45, 1.05)
        warmth = rng.normal(0, 0.12)  # of the light: log red against log blue
        self._illuminant = np.exp(np.array([warmth, rng.normal(0, 0.02), -warmth]))
        self._base = {name: self._hsv(MATERIALS[name]) for name in MATERIALS}
        self._spread = rng.uniform(0.15, 0.6)

    def color(self, material: str | None = None) -> np.ndarray:
        """(3,) linear light of one piece of a material; by default one of the picture's own."""
        rng = self._rng
        if material is None:
            material = self.materials[rng.integers(len(self.materials))] if rng.random() > 0.03 else "paint"
        fresh = rng.random() < (0.6 if material in ("paint", "cloth") else 0.2)
        base = self._hsv(MATERIALS[material]) if fresh else self._base[material]
        # pieces of one thing differ in how much light they get, and hardly in hue
        return base * np.exp(rng.normal(0, self._spread) + rng.normal(0, 0.05, 3)) * self._illuminant

    def _hsv(self, material: Material) -> np.ndarray:
        """(3,) linear light of a random colour of the material."""
        hue, saturation, value = (self._rng.uniform(*span) for span in material)
        saturation = min(1.0, saturation * self._muted)
        turn = (np.array([5.0, 3.0, 1.0]) + hue / 60) % 6
        return to_linear(value - value * saturation * np.clip(np.minimum(turn, 4 - turn), 0, 1))


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Encoded sRGB in [0, 1] -> linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] -> sRGB."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 1e-6) ** (1 / 2.4) - 0.055)


def luminance(light: np.ndarray) -> np.ndarray:
    """(..., 3) linear light -> (...) how bright it looks."""
    return light @ np.array([0.2126, 0.7152, 0.0722], light.dtype)
