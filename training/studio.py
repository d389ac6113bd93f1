"""What the scenes of one picture share: canvas, colours, textures, light and style."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training import textures
from training.canvas import Canvas, Mask, filled
from training.outlines import turned
from training.palettes import Palette
from training.surfaces import Surface


class Studio:
    """One picture in the making.

    Args:
        rng: all randomness of the picture.
        size: of both sides, in pixels.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.palette = Palette(rng)
        self.canvas = Canvas(size, self.palette.color())
        names, share = list(textures.TEXTURES), np.array([share for share, _ in textures.TEXTURES.values()])
        picked = rng.choice(len(names), int(rng.integers(2, 4)), replace=False, p=share / share.sum())
        self.texture_names = [names[i] for i in picked]
        self.textures = [textures.TEXTURES[name][1](rng, size) for name in self.texture_names]
        self.soft = textures.noise(rng, size, 1.8)
        angle = rng.uniform(np.pi, 2 * np.pi)  # light comes from above, as mostly
        self.light = (0.75 * float(np.cos(angle)), 0.75 * float(np.sin(angle)), 0.66)
        self.textured = rng.choice([0.2, 0.7, 0.95])  # the share of shapes with a texture
        self.contrast = np.exp(rng.uniform(np.log(0.08), np.log(0.5)))  # of textures, in log light
        self.roundness = rng.choice([0.0, 0.15, 0.6])  # the share of shapes shaded as balls
        self.shadows = rng.choice([0.0, 0.3, 0.8])  # the share of shapes that cast one
        self.used: dict[str, float] = {}  # names of textures and how much of each was painted

    def surface(
        self,
        center: tuple[float, float],
        radius: float,
        material: str | None = None,
        *,
        textured: float | None = None,
        bulge: float | None = None,
    ) -> Surface:
        """A random surface for something around a center, in pixels.

        Args:
            center: x, y.
            radius: of the thing.
            material: by default one of the palette's.
            textured: probability of a texture, by default the picture's.
            bulge: 0 flat, 1 a ball, by default random.
        """
        rng = self.rng
        texture, contrast = None, 0.0
        if rng.random() < (self.textured if textured is None else textured):
            index = int(rng.integers(len(self.textures) + 1))
            named = self.texture_names[index] if index < len(self.textures) else ""
            if named in textures.BUILT and material in textures.NATURAL_MATERIALS:  # no hills of brick
                index = len(self.textures)
            texture = self.soft if index == len(self.textures) else self.textures[index]
            contrast = self.contrast * rng.uniform(0.4, 1.5)
            if radius > self.size / 12 and index < len(self.textures):
                name = self.texture_names[index]
                self.used[name] = self.used.get(name, 0.0) + radius * radius
        if bulge is None:
            bulge = rng.uniform(0.4, 1.0) if rng.random() < self.roundness else 0.0
        steep = abs(rng.normal(0, 0.5)) / max(radius, 2) if rng.random() < 0.7 else 0.0
        drift = 1.0 + rng.normal(0, 0.12, 3) if rng.random() < 0.4 else np.ones(3)
        reach = max(radius, 1.0) * 1.1
        return Surface(
            color=self.palette.color(material),
            texture=texture,
            contrast=contrast,
            drift=(float(drift[0]), float(drift[1]), float(drift[2])),
            slope=(self.light[0] * steep, self.light[1] * steep),
            center=center,
            radius=(reach, reach),
            bulge=bulge,
            gloss=rng.uniform(0.2, 1.0) if bulge and rng.random() < 0.3 else 0.0,
            light=self.light,
        )

    def place(
        self,
        outline: np.ndarray,
        x: float,
        y: float,
        radius: float,
        *,
        material: str | None = None,
        softness_px: float = 0.0,
        angle: float = 0.0,
        opacity: float = 1.0,
    ) -> None:
        """Paint a unit outline at x, y with a radius in pixels, with its shadow."""
        points = (turned(outline, angle) if angle else outline) * radius + (x, y)
        if radius > 3 and self.rng.random() < self.shadows:
            reach = radius * self.rng.uniform(0.05, 0.35)
            fall = (-self.light[0] * reach, -self.light[1] * reach)
            self.canvas.darken(filled([points + fall], self.size, 0.5 + reach / 2), self.rng.uniform(0.2, 0.6))
        surface = self.surface((x, y), radius, material, textured=0.0 if softness_px > 2 else None)
        self.canvas.paint(filled([points], self.size, softness_px), surface, opacity)

    def wash(self, material: str | None = None, slope: tuple[float, float] | None = None) -> None:
        """Fill the whole canvas; with a slope, in log light per pixel, smoothly."""
        half = self.size / 2
        surface = self.surface((half, half), half, material, bulge=0.0, textured=None if slope is None else 0.0)
        if slope is not None:
            surface = replace(surface, slope=slope)
        self.canvas.paint(Mask(np.ones((self.size, self.size), np.float32), 0, 0), surface)
