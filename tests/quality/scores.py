"""Scores of one photo; a module of its own, as worker processes import it by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from supir_core.restorer import Restorer
from tests.quality import looks
from tests.quality.measures import psnr, sharpness, ssim


class Score(NamedTuple):
    """One picture against its original."""

    photo: str
    damage: str
    look: str
    psnr: float
    ssim: float
    sharpness: float


def measure(model: str, name: str) -> tuple[list[Score], dict[str, dict[str, np.ndarray]]]:
    """Scores of a photo in every damage and look, and the pictures."""
    torch.set_num_threads(1)
    restorer, original = Restorer.load(model, device="cpu"), looks.read_photos()[name]
    scores, pictures = [], {}
    for damage, damaged in looks.damaged_photos(original).items():
        made = {"bicubic": looks.bicubic(damaged), "stage 1": looks.stage1(restorer, damaged)}
        made |= looks.restore(restorer, name, damaged, looks.looks())
        for look, pixels in made.items():
            figures = (measured(pixels, original) for measured in (psnr, ssim, sharpness))
            scores.append(Score(name, damage, look, *figures))
        pictures[damage] = {"damaged": made["bicubic"], "original": original} | made
    return scores, pictures
