"""What a window costs: floating-point operations of the networks, counted from shapes."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import UNetDims
from supir_core.networks.unet import UNet

PROMPT_TOKENS = 77


class Cost(NamedTuple):
    """FLOPs of one window of n cells: `fixed + linear n + quadratic n^2`, one multiply-add being two."""

    fixed: float  # embeddings
    linear: float  # convolutions, projections, attention over the prompt
    quadratic: float  # attention over the window

    def window(self, height: int, width: int) -> float:
        """FLOPs of UNet, connectors and control branch for a window of height x width cells, batch 1.

        Without what a photo needs only once: keys and values of the prompt, and the hint.
        """
        n = height * width
        return self.fixed + self.linear * n + self.quadratic * n * n


@lru_cache
def network_cost(dims: UNetDims) -> Cost:
    """The cost of a model's windows, from counts at three small sizes; sides must be multiples of the UNet's factor."""
    with torch.device("meta"):
        unet, control = UNet(dims), ControlBranch(dims)
    sides = [2 ** (len(dims.channel_mult) + k) for k in range(3)]
    counts = [_count(unet, control, dims, side) for side in sides]
    powers = torch.tensor([[side ** (2 * power) for power in range(3)] for side in sides], dtype=torch.float64)
    return Cost(*torch.linalg.solve(powers, torch.tensor(counts, dtype=torch.float64)).tolist())


def _count(unet: UNet, control: ControlBranch, dims: UNetDims, side: int) -> int:
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        x = torch.empty(1, dims.latent_channels, side, side)
        t = torch.empty(1, dtype=torch.long)
        context = torch.empty(1, PROMPT_TOKENS, dims.context_dim)
        vector = torch.empty(1, dims.vector_dim)
        once = control.read(context), control.hint(x), unet.read(context)
        before = counter.get_total_flops()
        features = control(x, t, once[0], vector, once[1])
        unet(x, t, once[2], vector, features, torch.empty(1))
        return int(counter.get_total_flops() - before)
