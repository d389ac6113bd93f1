"""What a painted shape looks like inside: its colour, texture and shading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Surface:
    """Colour in linear light, changed in its logarithm by texture and slope, and by a light that falls on it.

    As in photos, light varies by factors: the logarithms of neighbouring lights are close to normal.
    """

    color: np.ndarray  # (3,) linear light
    texture: np.ndarray | None = None  # (S, S) float32 around 0, as large as the canvas
    contrast: float = 0.0  # log light per unit of texture
    drift: tuple[float, float, float] = (1.0, 1.0, 1.0)  # the share of the contrast in red, green, blue
    slope: tuple[float, float] = (0.0, 0.0)  # log light per pixel to the right and down
    center: tuple[float, float] = (0.0, 0.0)  # x, y in pixels: where the slope is 0 and the bulge highest
    radius: tuple[float, float] = (1.0, 1.0)  # of the bulge, in pixels
    bulge: float = 0.0  # 0 flat, 1 a ball
    gloss: float = 0.0  # linear light of the highlight on a ball
    light: tuple[float, float, float] = (-0.5, -0.6, 0.62)  # where light comes from: right, down, towards the eye

    def render(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width, 3) float32 linear light, for a box of the canvas."""
        tone = self._tone(top, left, height, width)
        if tone is None and not self.bulge:
            return np.broadcast_to(self.color.astype(np.float32), (height, width, 3)).copy()
        if tone is None:
            filled = np.ones((height, width, 1), np.float32)
        elif self.drift == (1.0, 1.0, 1.0):
            filled = np.exp(tone)[..., None]
        else:
            filled = np.exp(tone[..., None] * np.array(self.drift, np.float32))
        if self.bulge:
            lambert = self._lambert(top, left, height, width)
            filled = filled * (1 - self.bulge + self.bulge * 1.6 * lambert)[..., None]
            if self.gloss:
                return filled * self.color.astype(np.float32) + (self.gloss * lambert**24)[..., None]
        return filled * self.color.astype(np.float32)

    def _tone(self, top: int, left: int, height: int, width: int) -> np.ndarray | None:
        """(height, width) log light, or None for nothing."""
        tone = None
        if self.texture is not None and self.contrast:
            tone = self.texture[top : top + height, left : left + width] * np.float32(self.contrast)
        if self.slope != (0.0, 0.0):
            x = (np.arange(left, left + width, dtype=np.float32) - self.center[0]) * self.slope[0]
            y = (np.arange(top, top + height, dtype=np.float32) - self.center[1]) * self.slope[1]
            tone = y[:, None] + x if tone is None else tone + y[:, None] + x
        return None if tone is None else np.clip(tone, -4, 2)

    def _lambert(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """(height, width) in [0.05, 1]: how much light falls on a ball."""
        u = (np.arange(left, left + width, dtype=np.float32) - self.center[0]) / self.radius[0]
        v = ((np.arange(top, top + height, dtype=np.float32) - self.center[1]) / self.radius[1])[:, None]
        towards = np.sqrt(np.maximum(1 - u * u - v * v, 0))
        return np.clip(u * self.light[0] + v * self.light[1] + towards * self.light[2], 0.05, 1)
