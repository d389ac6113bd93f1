"""Pictures that a program draws, to train on: free of any licence, and the same for everyone.

They are dead leaves: shapes that hide each other, with sizes after a power law, which have edges, flat areas and a
spectrum much like photos; networks that learn to denoise them carry over to photos (Achddou, Gousseau and Ladjal,
2021). On top there are textures, shading, focus, letters and simple scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from training import captions
from training.details import DETAILS
from training.develop import develop
from training.portraits import portrait
from training.scenes import SCENES
from training.studio import Studio

ALL_SCENES = {**SCENES, "portrait": (0.08, portrait)}


class Picture(NamedTuple):
    """A picture and what it shows."""

    pixels: np.ndarray  # (S, S, 3) uint8 sRGB
    caption: str


def draw(seed: int | Sequence[int], size: int) -> Picture:
    """The picture of a seed.

    Args:
        seed: one number, or several; nothing else decides what is drawn.
        size: of both sides, in pixels, from 32. The same seed in another size is another picture.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    studio = Studio(rng, size)
    share = np.array([share for share, _ in ALL_SCENES.values()])
    _, scene = list(ALL_SCENES.values())[rng.choice(len(share), p=share / share.sum())]
    said = scene(studio)
    details = [detail(studio) for detail, chance in DETAILS.items() if rng.random() < chance]
    focus = _defocus(studio)
    pixels, special = develop(studio)
    most_used = sorted(studio.used, key=studio.used.__getitem__)[-1:]
    parts = [*said, focus, *special, *most_used, *details]
    return Picture(pixels, captions.compose(parts, pixels))


def _defocus(studio: Studio) -> str:
    """Few pictures are soft all over; most stay sharp, since they show what sharp is."""
    chance = studio.rng.random()
    if chance > 0.95:
        studio.canvas.blur(studio.rng.uniform(0.9, 2.0))
        return "soft focus"
    if chance > 0.75:
        studio.canvas.blur(studio.rng.uniform(0.3, 0.6))  # a lens
        return "detailed"
    return "sharp"
