"""SUPIR's connectors: how the control branch's features enter the UNet's decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supir_core.networks.blocks import RES_NORM_EPS, Attention, to_map, to_tokens


class ZeroSFT(nn.Module):
    """Concatenates decoder and skip features and modulates them by the control feature (paper section 3.2).

    Args:
        control: channels of the control feature.
        skip: channels of the skip connection.
        decoder: channels of the decoder feature; 0 for the one after the middle block.
        hidden: channels between the control feature and the modulation.
        groups: groups of the normalisation.
    """

    def __init__(self, control: int, skip: int, decoder: int, hidden: int, groups: int):
        super().__init__()
        channels = skip + decoder
        self.param_free_norm = nn.GroupNorm(groups, channels, eps=RES_NORM_EPS)  # has parameters, whatever its key says
        self.mlp_shared = nn.Sequential(nn.Conv2d(control, hidden, 3, padding=1), nn.SiLU())
        self.zero_mul = nn.Conv2d(hidden, channels, 3, padding=1)
        self.zero_add = nn.Conv2d(hidden, channels, 3, padding=1)
        self.zero_conv = nn.Conv2d(control, skip, 1)

    def forward(self, control: Tensor, skip: Tensor, decoder: Tensor | None, scale: Tensor) -> Tensor:
        """Features that replace the plain concatenation [decoder, skip].

        Args:
            control: (B, control, h, w).
            skip: (B, skip, h, w).
            decoder: (B, decoder, h, w), or None after the middle block.
            scale: broadcasts to (B, 1, 1, 1); 0 gives the plain concatenation.
        """
        parts = [] if decoder is None else [decoder]
        raw = torch.cat([*parts, skip], dim=1)
        mixed = torch.cat([*parts, skip + self.zero_conv(control)], dim=1)
        hidden = self.mlp_shared(control)
        out = self.param_free_norm(mixed) * (self.zero_mul(hidden) + 1) + self.zero_add(hidden)
        return out * scale + raw * (1 - scale)


class ZeroCrossAttention(nn.Module):
    """Lets the decoder look at the control feature, before an upsampling."""

    def __init__(self, channels: int, control: int, head_channels: int, groups: int):
        super().__init__()
        self.attn = Attention(channels, control, head_channels)
        self.norm1 = nn.GroupNorm(groups, channels, eps=RES_NORM_EPS)
        self.norm2 = nn.GroupNorm(groups, control, eps=RES_NORM_EPS)

    def forward(self, control: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        """(B, control, h, w) and (B, channels, h, w) -> (B, channels, h, w); `scale` broadcasts to (B, 1, 1, 1)."""
        seen = self.attn(to_tokens(self.norm1(x)), to_tokens(self.norm2(control)))
        return x + to_map(seen, x) * scale
