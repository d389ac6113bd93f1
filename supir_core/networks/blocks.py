"""The building blocks that the UNet and the control branch share (SDXL's, eps values as published)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RES_NORM_EPS = 1e-5  # residual blocks and connectors
TRANSFORMER_NORM_EPS = 1e-6  # the GroupNorm that opens a spatial transformer, and the whole VAE


def timestep_embedding(values: Tensor, channels: int) -> Tensor:
    """Sinusoidal embedding of numbers, cosines first, longest period 10000.

    Args:
        values: (B,), any real dtype.
        channels: width of the embedding, even.

    Returns:
        (B, channels) float32.
    """
    half = channels // 2
    ramp = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values.float()[:, None] * torch.exp(-math.log(10000) * ramp / half)  # (B, half)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ResBlock(nn.Module):
    """Two 3x3 convolutions around the time embedding, plus a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, groups: int):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels_in, eps=RES_NORM_EPS),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, channels_out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, channels_out, eps=RES_NORM_EPS),
            nn.SiLU(),
            nn.Identity(),  # dropout in training; keeps the published key `out_layers.3`
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        self.skip_connection = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """(B, channels_in, h, w) and (B, embedding) -> (B, channels_out, h, w)."""
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Attention(nn.Module):
    """Multi-head attention of `x` over `context`."""

    def __init__(self, query_dim: int, context_dim: int, head_channels: int):
        super().__init__()
        self.heads = query_dim // head_channels
        self.to_q = nn.Linear(query_dim, query_dim, bias=False)
        self.to_k = nn.Linear(context_dim, query_dim, bias=False)
        self.to_v = nn.Linear(context_dim, query_dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(query_dim, query_dim))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, n, query_dim) and (B, m, context_dim) -> (B, n, query_dim)."""
        return self.attend(x, self.to_k(context), self.to_v(context))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """(B, n, query_dim) over keys and values (B, m, query_dim) -> (B, n, query_dim)."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, head_channels)
            for y in (self.to_q(x), keys, values)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(y.transpose(1, 2).flatten(2))


class _GEGLU(nn.Module):
    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.proj = nn.Linear(channels_in, 2 * channels_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.Sequential(_GEGLU(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _TransformerBlock(nn.Module):
    def __init__(self, channels: int, context_dim: int, head_channels: int):
        super().__init__()
        self.attn1 = Attention(channels, channels, head_channels)
        self.ff = _FeedForward(channels)
        self.attn2 = Attention(channels, context_dim, head_channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def read(self, context: Tensor) -> Tensor:
        return torch.cat([self.attn2.to_k(context), self.attn2.to_v(context)], dim=-1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn1(y, y)
        x = x + self.attn2.attend(self.norm2(x), *text.chunk(2, dim=-1))
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """`depth` transformer blocks over the cells of a feature map, with a shortcut around all of them."""

    def __init__(self, channels: int, depth: int, context_dim: int, head_channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=TRANSFORMER_NORM_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            _TransformerBlock(channels, context_dim, head_channels) for _ in range(depth)
        )
        self.proj_out = nn.Linear(channels, channels)
        self.text_width = 2 * depth * channels

    def read(self, context: Tensor) -> Tensor:
        """(B, L, context_dim) -> (B, L, text_width): keys and values of every block, side by side."""
        return torch.cat([cast(_TransformerBlock, block).read(context) for block in self.transformer_blocks], dim=-1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """(B, channels, h, w) and what `read` gave -> (B, channels, h, w)."""
        y = self.proj_in(to_tokens(self.norm(x)))
        for block, part in zip(self.transformer_blocks, text.chunk(len(self.transformer_blocks), dim=-1), strict=True):
            y = block(y, part)
        return x + to_map(self.proj_out(y), x)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def to_map(y: Tensor, like: Tensor) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w) with the h and w of `like`."""
    return y.transpose(1, 2).unflatten(2, like.shape[2:])


class Downsample(nn.Module):
    """Half the height and width by a strided 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, ceil(h / 2), ceil(w / 2))."""
        return self.op(x)


class Upsample(nn.Module):
    """Twice the height and width by nearest neighbours and a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Block(nn.ModuleList):
    """One entry of the UNet: residual block, transformer and resampling, each fed what it needs."""

    def forward(self, x: Tensor, emb: Tensor, texts: Iterator[Tensor]) -> Tensor:
        """Run every layer of this entry."""
        for layer in self:
            x = run_layer(layer, x, emb, texts)
        return x


def run_layer(layer: nn.Module, x: Tensor, emb: Tensor, texts: Iterator[Tensor]) -> Tensor:
    """One layer of a `Block`, with the inputs that its kind takes; a transformer takes the next of `texts`."""
    if isinstance(layer, ResBlock):
        return layer(x, emb)
    if isinstance(layer, SpatialTransformer):
        return layer(x, next(texts))
    return layer(x)
