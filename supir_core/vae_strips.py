"""The autoencoder by strips of rows: the whole picture's result under a memory budget.

Published tiling normalises with averaged statistics of tiles and attends inside each tile, so its pictures differ from
untiled ones. Here nothing is approximated: a feature map is a lazy expression that can give any of its rows, asking its
source for the rows its convolutions need; GroupNorm's statistics are summed over all strips first; the middle attention
runs on the whole (small) map. What differs from an untiled run is the order of sums.

Residual blocks' results are kept as maps. Everything between is kept where the budget allows, else computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.networks.vae import Decoder, Encoder, Level, ResBlock

STRIP_BYTES = 32 * 2**20  # of one map's strip; a few of them exist at once


class Map(Protocol):
    """A feature map (B, C, height, width) that can give any of its rows."""

    shape: tuple[int, ...]  # (B, C, height, width)

    def rows(self, top: int, bottom: int) -> Tensor:
        """(B, C, bottom - top, width)."""


@dataclass
class Budget:
    """Bytes that kept maps may take at one time, and one strip of a map that is not kept."""

    limit_bytes: int
    strip_bytes: int
    used_bytes: int = 0

    def fits(self, like: Map, element_bytes: int) -> bool:
        """Whether one more map of this shape may be kept."""
        return self.used_bytes + _numel(like) * element_bytes <= self.limit_bytes


def decode(decoder: Decoder, z: Tensor, budget_bytes: int, strip_bytes: int = STRIP_BYTES) -> Tensor:
    """Image (B, 3, H, W) of a latent (B, 4, h, w) after `post_quant_conv`.

    Args:
        decoder: the network.
        z: the latent.
        budget_bytes: what kept feature maps should take at most; the two maps of a residual block are kept regardless.
        strip_bytes: of one strip of a map that is not kept.
    """
    budget = Budget(budget_bytes, strip_bytes)
    node: Map = Kept(decoder.mid(decoder.conv_in(z)))
    for level in reversed(cast(list[Level], list(decoder.up))):
        for block in level.block:  # no function of its own: its caller would hold the level's input until it ends
            node = _kept_block(node, cast(ResBlock, block), budget)
        if hasattr(level, "upsample"):
            node = _kept_if_it_fits(Conv(Upsampled(node), level.upsample.conv), budget)
    return _whole(Conv(_normed(node, decoder.norm_out, budget), decoder.conv_out), budget)


def encode(encoder: Encoder, x: Tensor, budget_bytes: int, strip_bytes: int = STRIP_BYTES) -> Tensor:
    """The raw output (B, 2 * latent_channels, h, w), before `quant_conv`, of an image (B, 3, H, W)."""
    budget = Budget(budget_bytes, strip_bytes)
    node: Map = _kept_if_it_fits(Conv(Kept(x), encoder.conv_in), budget)
    for level in cast(list[Level], list(encoder.down)):
        for block in level.block:
            node = _kept_block(node, cast(ResBlock, block), budget)
        if hasattr(level, "downsample"):
            node = Kept(_whole(StridedConv(node, level.downsample.conv), budget))
    h = encoder.mid(_whole(node, budget))
    return encoder.conv_out(F.silu(encoder.norm_out(h)))


def _kept_block(node: Map, block: ResBlock, budget: Budget) -> Map:
    b, _, h, w = node.shape
    budget.used_bytes += b * block.conv2.out_channels * h * w * block.conv2.weight.element_size()  # the result's
    kept = Kept(_whole(_res_block(node, block, budget), budget))
    budget.used_bytes = kept.data.nbytes
    return kept


def _res_block(node: Map, block: ResBlock, budget: Budget) -> Map:
    h = _kept_if_it_fits(Conv(_normed(node, block.norm1, budget), block.conv1), budget)
    h = Conv(_normed(h, block.norm2, budget), block.conv2)
    return Sum(h, Conv(node, block.nin_shortcut) if hasattr(block, "nin_shortcut") else node)


def _kept_if_it_fits(node: Map, budget: Budget) -> Map:
    element_bytes = node.rows(0, 1).element_size()
    return Kept(_whole(node, budget)) if budget.fits(node, element_bytes) else node


def _numel(node: Map) -> int:
    b, c, h, w = node.shape
    return b * c * h * w


def _strips(node: Map, budget: Budget) -> Iterator[tuple[int, Tensor]]:
    """(top, rows) of every strip."""
    b, c, height, width = node.shape
    step = max(4, budget.strip_bytes // (b * c * width * 4))
    for top in range(0, height, step):
        yield top, node.rows(top, min(height, top + step))


def _whole(node: Map, budget: Budget) -> Tensor:
    """All rows as one tensor."""
    if isinstance(node, Kept):
        return node.data
    out: Tensor | None = None
    for top, strip in _strips(node, budget):
        out = strip.new_empty(node.shape) if out is None else out
        out[:, :, top : top + strip.shape[2]] = strip
    assert out is not None
    return out


class Kept:
    """A map that lies in memory."""

    def __init__(self, data: Tensor):
        self.data = data
        self.shape: tuple[int, ...] = tuple(data.shape)

    def rows(self, top: int, bottom: int) -> Tensor:
        """A view of the rows."""
        return self.data[:, :, top:bottom]


class Conv:
    """A convolution with stride 1 and as much padding as keeps the size."""

    def __init__(self, source: Map, conv: nn.Conv2d):
        b, _, h, w = source.shape
        self.source, self.conv = source, conv
        self.shape: tuple[int, ...] = (b, conv.out_channels, h, w)
        self._halo = conv.kernel_size[0] // 2

    def rows(self, top: int, bottom: int) -> Tensor:
        """Computed from `halo` more rows of the source; zeros beyond the edges."""
        halo, height = self._halo, self.shape[2]
        first, last = max(0, top - halo), min(height, bottom + halo)
        x = self.source.rows(first, last)
        x = F.pad(x, (halo, halo, first - (top - halo), bottom + halo - last))
        return F.conv2d(x, self.conv.weight, self.conv.bias)


class StridedConv:
    """The encoder's downsampling: 3x3, stride 2, one zero row and column at the bottom and right."""

    def __init__(self, source: Map, conv: nn.Conv2d):
        b, _, h, w = source.shape
        self.source, self.conv = source, conv
        self.shape: tuple[int, ...] = (b, conv.out_channels, (h - 2) // 2 + 1, (w - 2) // 2 + 1)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Row i needs the source's rows 2i to 2i + 2."""
        last = 2 * (bottom - 1) + 3
        height = self.source.shape[2]
        x = self.source.rows(2 * top, min(last, height))
        return F.conv2d(F.pad(x, (0, 1, 0, max(0, last - height))), self.conv.weight, self.conv.bias, stride=2)


class Upsampled:
    """Every cell twice in both directions."""

    def __init__(self, source: Map):
        b, c, h, w = source.shape
        self.source = source
        self.shape: tuple[int, ...] = (b, c, 2 * h, 2 * w)

    def rows(self, top: int, bottom: int) -> Tensor:
        """From half as many rows of the source."""
        first = top // 2
        x = self.source.rows(first, (bottom + 1) // 2)
        return F.interpolate(x, scale_factor=2, mode="nearest")[:, :, top - 2 * first : bottom - 2 * first]


class Sum:
    """Two maps added."""

    def __init__(self, a: Map, b: Map):
        self.a, self.b = a, b
        self.shape: tuple[int, ...] = a.shape

    def rows(self, top: int, bottom: int) -> Tensor:
        """The sum of the rows."""
        return self.a.rows(top, bottom) + self.b.rows(top, bottom)


class Normed:
    """GroupNorm with given statistics, then SiLU."""

    def __init__(self, source: Map, norm: nn.GroupNorm, mean: Tensor, rstd: Tensor):
        self.source = source
        self.shape: tuple[int, ...] = source.shape
        per_channel = source.shape[1] // norm.num_groups
        rstd, mean = (y.float().repeat_interleave(per_channel, dim=1) for y in (rstd, mean))  # (B, C)
        self._scale = (rstd * norm.weight)[:, :, None, None]
        self._shift = (norm.bias - mean * rstd * norm.weight)[:, :, None, None]

    def rows(self, top: int, bottom: int) -> Tensor:
        """Pointwise."""
        x = self.source.rows(top, bottom)
        return F.silu(torch.addcmul(self._shift, x.float(), self._scale)).to(x.dtype)


def _normed(source: Map, norm: nn.GroupNorm, budget: Budget) -> Normed:
    """GroupNorm with the statistics of the whole map (one pass over it), then SiLU."""
    b, c, height, width = source.shape
    total = torch.zeros(b, norm.num_groups, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for _, strip in _strips(source, budget):
        groups = strip.double().unflatten(1, (norm.num_groups, -1)).flatten(2)
        total += groups.sum(dim=2).cpu()
        squares += groups.square().sum(dim=2).cpu()
    count = c // norm.num_groups * height * width
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    device = norm.weight.device
    return Normed(source, norm, mean.to(device), (variance + norm.eps).rsqrt().to(device))
