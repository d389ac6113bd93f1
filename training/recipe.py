"""The recipe of the demo model: its sizes, and how long, how fast and on what each of the four stages trains.

Stages take shares of the time (or of the steps), and learning rates follow the share that has passed: the same recipe
runs for hours on a processor and for minutes on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from supir_core.networks.dims import ClipDims, ModelDims, TextDims, UNetDims, VaeDims

STAGES = ("autoencoder", "denoise_encoder", "unet", "control")  # each needs those before it


@dataclass(frozen=True)
class StageRecipe:
    """How one stage trains."""

    share: float  # of the time of all stages
    batch: int
    crop_px: int
    rate: float  # the highest learning rate


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; weights are `dims` but for the latent scale, which is measured."""

    dims: ModelDims
    stages: Mapping[str, StageRecipe]
    pictures: int  # drawn before training
    encoded: int  # of them, for UNet and control branch
    picture_px: int = 256
    versions: int = 2  # damaged versions of each picture
    seed: int = 20261122
    kl: float = 3e-4  # the pull of latents towards N(0, 1)
    gradient: float = 0.5  # weight of the error of differences between neighbours, which keeps edges
    untouched_share: float = 0.1  # a good photo is to be left as it is
    negative_share: float = 0.08  # badly damaged pictures under the negative prompt


# Sizes are chosen for two CPU cores: channels cost a UNet little next to attention, so the level with most cells
# has none, and the next one is narrow. One layer of text: SDXL reads the layer before the last, which here is the sum
# of word and position; words the training never saw stay close to zero, and so without effect.
DEMO_DIMS = ModelDims(
    vae=VaeDims(32, (1, 2, 2), 2, latent_channels=16, norm_groups=16, latent_scale=1.0),
    unet=UNetDims(
        channels=48,
        channel_mult=(1, 1, 2, 2),
        res_blocks=1,
        transformer_depth=(1, 1, 1, 1),
        head_channels=48,
        context_dim=32,
        vector_dim=16 + 6 * 8,
        latent_channels=16,
        norm_groups=16,
        connector_hidden=32,
        connector_head_channels=48,
    ),
    text=TextDims(ClipDims(16, 1, 1, 32, 16), ClipDims(16, 1, 1, 32, 16), size_embedding=8),
)

CPU = Recipe(
    DEMO_DIMS,
    {
        "autoencoder": StageRecipe(0.25, batch=16, crop_px=64, rate=4e-4),
        "denoise_encoder": StageRecipe(0.2, batch=16, crop_px=64, rate=4e-4),
        "unet": StageRecipe(0.25, batch=16, crop_px=128, rate=5e-4),
        "control": StageRecipe(0.3, batch=16, crop_px=128, rate=5e-4),
    },
    pictures=800,
    encoded=320,
)

GPU = Recipe(
    DEMO_DIMS,
    {
        "autoencoder": StageRecipe(0.25, batch=64, crop_px=128, rate=6e-4),
        "denoise_encoder": StageRecipe(0.2, batch=64, crop_px=128, rate=6e-4),
        "unet": StageRecipe(0.25, batch=128, crop_px=192, rate=8e-4),
        "control": StageRecipe(0.3, batch=128, crop_px=192, rate=8e-4),
    },
    pictures=12000,
    encoded=12000,
)


def learning_rate(peak: float, passed: float) -> float:
    """The rate after a share of the stage, 0 to 1: a short rise, then a cosine down to a hundredth."""
    rise = min(1.0, 0.02 + passed / 0.03)
    return peak * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, passed))))
