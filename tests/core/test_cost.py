"""Counted costs against the published networks' counts."""

from __future__ import annotations

import pytest
import torch

from supir_core.cost import PROMPT_TOKENS, network_cost
from supir_core.networks.blocks import SpatialTransformer
from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import FULL
from supir_core.networks.unet import UNet

# FLOPs of one call of the published networks at full size, by the side of the latent in cells (torch's FLOP counter).
PUBLISHED = {64: 2_381_490_257_920, 128: 10_140_357_591_040, 256: 53_919_800_197_120}


@pytest.mark.parametrize("side", PUBLISHED)
def test_a_window_costs_what_it_does_in_the_published_code_but_for_what_is_computed_once(side: int) -> None:
    once = prompt_flops() + hint_flops(side * side)
    assert network_cost(FULL.unet).window(side, side) + once == pytest.approx(PUBLISHED[side], rel=1e-9)
    assert 0 < once < 0.04 * PUBLISHED[side]


def prompt_flops() -> int:
    """Of the keys and values of every attention over the prompt."""
    with torch.device("meta"):
        networks = UNet(FULL.unet), ControlBranch(FULL.unet)
    transformers = [m for network in networks for m in network.modules() if isinstance(m, SpatialTransformer)]
    return 2 * PROMPT_TOKENS * FULL.unet.context_dim * sum(transformer.text_width for transformer in transformers)


def hint_flops(cells: int) -> int:
    """Of a 3x3 convolution from the latent's channels."""
    return 2 * 9 * FULL.unet.latent_channels * FULL.unet.channels * cells
