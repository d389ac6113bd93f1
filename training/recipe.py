"""The recipe of the demo model: its sizes, and how long, how fast and on what each of the four stages trains.

Stages take shares of the time (or of the steps), and learning rates follow the share that has passed: the same recipe
runs for hours on a processor and for minutes on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from supir_core.networks.dims import DEMO, ModelDims

STAGES = ("decoder", "denoise_encoder", "unet", "control")
NEEDS = {"control": ("denoise_encoder", "unet")}  # the first three can train side by side


@dataclass(frozen=True)
class StageRecipe:
    """How one stage trains."""

    share: float  # of the time of all stages
    batch: int
    crop_px: int
    matrix_rate: float  # the highest learning rate of matrices, by Muon
    rate: float  # and of everything else, by Adam


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    dims: ModelDims
    stages: Mapping[str, StageRecipe]
    pictures: int  # drawn before training
    encoded: int  # of them, by the denoise encoder, for the control branch
    picture_px: int = 256
    versions: int = 2  # damaged versions of each picture
    seed: int = 20261122
    gradient: float = 0.5  # weight of the error of differences between neighbours, which keeps edges
    soft_share: float = 0.25  # badly damaged pictures for the decoder: what stage 1 gives it is soft, too
    untouched_share: float = 0.1  # a good photo is to be left as it is
    negative_share: float = 0.15  # badly damaged pictures under the negative prompt


CPU = Recipe(
    DEMO,
    {
        "decoder": StageRecipe(0.38, batch=8, crop_px=64, matrix_rate=0.02, rate=5e-4),
        "denoise_encoder": StageRecipe(0.165, batch=16, crop_px=64, matrix_rate=0.006, rate=4e-4),
        "unet": StageRecipe(0.23, batch=16, crop_px=128, matrix_rate=0.015, rate=1e-3),
        "control": StageRecipe(0.225, batch=16, crop_px=128, matrix_rate=0.01, rate=1e-3),
    },
    pictures=1200,
    encoded=500,
)

GPU = Recipe(
    DEMO,
    {
        "decoder": StageRecipe(0.38, batch=64, crop_px=128, matrix_rate=0.02, rate=5e-4),
        "denoise_encoder": StageRecipe(0.165, batch=64, crop_px=128, matrix_rate=0.006, rate=4e-4),
        "unet": StageRecipe(0.23, batch=128, crop_px=192, matrix_rate=0.015, rate=1e-3),
        "control": StageRecipe(0.225, batch=128, crop_px=192, matrix_rate=0.01, rate=1e-3),
    },
    pictures=12000,
    encoded=12000,
)


def learning_rate(peak: float, passed: float) -> float:
    """The rate after a share of the stage, 0 to 1: a short rise, then a cosine down to a hundredth."""
    rise = min(1.0, 0.01 + passed / 0.05)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, passed))))
