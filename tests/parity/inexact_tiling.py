"""A test oracle: the published VAE tiling on our networks, after section 5.6 of the golden data's README.

It shows that golden tensors which our exact autoencoder cannot match differ by this tiling and by nothing else. The
picture is cut into padded tiles, and the network runs on all of them in step, layer by layer. What is inexact:

- GroupNorm takes the averages of the tiles' own means and (biased) variances. That drops the variance between tiles
  and counts their overlaps more than once.
- The middle attention sees no further than its padded tile.
- Convolutions find zeros beyond a tile's edge, and a tile's padding is less than they reach in the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.networks.blocks import to_map, to_tokens
from supir_core.networks.vae import Decoder, Encoder, Level, ResBlock, Vae

ENCODER_PADDING = 32  # pixels
DECODER_PADDING = 11  # latent cells
STEP_MULTIPLE = 32  # balanced tiles are rounded up to it; the least power of two that gives tiled_vae.json's boxes

Tiles = list[Tensor]


class Span(NamedTuple):
    """Cells from `start` to `stop` along one side."""

    start: int
    stop: int

    def within(self, start: int, scale: float) -> slice:
        """These cells counted from `start`, in a map of `scale` times the resolution."""
        return slice(round((self.start - start) * scale), round((self.stop - start) * scale))


def spans(side: int, tile: int, padding: int) -> list[tuple[Span, Span]]:
    """(what the network sees, what its result is for) of the tiles along one side, in cells of the network's input.

    Tiles lie between the outer paddings, which belong to the first and the last one. A side of at most tile + 2 padding
    cells has one tile, and a picture of one tile gives the untiled result.
    """
    inner = side - 2 * padding
    count = max(1, math.ceil(inner / tile))
    step = min(tile, math.ceil(inner / count / STEP_MULTIPLE) * STEP_MULTIPLE)
    cuts = [0, *(padding + i * step for i in range(1, count)), side]
    seen = [Span(i * step, min(side, (i + 1) * step + 2 * padding)) for i in range(count)]
    return list(zip(seen, (Span(*cut) for cut in pairwise(cuts)), strict=True))


def with_published_tiling(vae: Vae, encoder_tile: int, decoder_tile: int) -> Vae:
    """An autoencoder with the same weights whose networks run by tiles, of a size in pixels and in latent cells."""
    with torch.device("meta"):
        tiled = Vae(vae.dims)
    modules = {
        "encoder": ByTiles(vae.encoder, _encode, encoder_tile, ENCODER_PADDING),
        "denoise_encoder": ByTiles(vae.denoise_encoder, _encode, encoder_tile, ENCODER_PADDING),
        "decoder": ByTiles(vae.decoder, _decode, decoder_tile, DECODER_PADDING),
        "quant_conv": vae.quant_conv,
        "post_quant_conv": vae.post_quant_conv,
    }
    for name, module in modules.items():
        tiled.add_module(name, module)
    return tiled


class ByTiles(nn.Module):
    """A network that runs by tiles."""

    def __init__(self, network: nn.Module, run: Callable[..., Tiles], tile: int, padding: int):
        super().__init__()
        self.network, self._run, self._tile, self._padding = network, run, tile, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) as the network takes it -> its result."""
        rows, columns = (spans(side, self._tile, self._padding) for side in x.shape[2:])
        boxes = list(product(rows, columns))
        tiles = [x[:, :, row.start : row.stop, column.start : column.stop] for (row, _), (column, _) in boxes]
        results = self._run(self.network, tiles)
        scale = results[0].shape[2] / tiles[0].shape[2]  # 8 or 1/8
        out = x.new_empty(len(x), results[0].shape[1], *(round(side * scale) for side in x.shape[2:]))
        for ((row, out_row), (column, out_column)), result in zip(boxes, results, strict=True):
            part = result[:, :, out_row.within(row.start, scale), out_column.within(column.start, scale)]
            out[:, :, out_row.within(0, scale), out_column.within(0, scale)] = part
        return out


def _encode(encoder: Encoder, tiles: Tiles) -> Tiles:
    tiles = [encoder.conv_in(x) for x in tiles]
    for level in cast(list[Level], list(encoder.down)):
        tiles = _level(level, tiles)
    return [encoder.conv_out(F.silu(x)) for x in _normed(encoder.norm_out, _middle(encoder, tiles))]


def _decode(decoder: Decoder, tiles: Tiles) -> Tiles:
    tiles = _middle(decoder, [decoder.conv_in(z) for z in tiles])
    for level in reversed(cast(list[Level], list(decoder.up))):
        tiles = _level(level, tiles)
    return [decoder.conv_out(F.silu(x)) for x in _normed(decoder.norm_out, tiles)]


def _level(level: Level, tiles: Tiles) -> Tiles:
    for block in cast(list[ResBlock], list(level.block)):
        tiles = _res_block(block, tiles)
    for name in ("downsample", "upsample"):
        if hasattr(level, name):
            tiles = [getattr(level, name)(x) for x in tiles]
    return tiles


def _middle(network: Encoder | Decoder, tiles: Tiles) -> Tiles:
    attention = network.mid.attn_1
    tiles = _res_block(network.mid.block_1, tiles)
    attended = []
    for y in _normed(attention.norm, tiles):
        q, k, v = (to_tokens(conv(y))[:, None] for conv in (attention.q, attention.k, attention.v))
        attended.append(attention.proj_out(to_map(F.scaled_dot_product_attention(q, k, v)[:, 0], y)))
    return _res_block(network.mid.block_2, [x + y for x, y in zip(tiles, attended, strict=True)])


def _res_block(block: ResBlock, tiles: Tiles) -> Tiles:
    hidden = [block.conv1(F.silu(x)) for x in _normed(block.norm1, tiles)]
    hidden = [block.conv2(F.silu(x)) for x in _normed(block.norm2, hidden)]
    shortcut = getattr(block, "nin_shortcut", nn.Identity())
    return [h + shortcut(x) for h, x in zip(hidden, tiles, strict=True)]


def _normed(norm: nn.GroupNorm, tiles: Tiles) -> Tiles:
    """GroupNorm of all tiles with the averages of their own statistics, weighted by the tiles' areas."""
    mean, variance = torch.zeros(2, len(tiles[0]), norm.num_groups, 1)
    area = sum(x.shape[2:].numel() for x in tiles)
    for x in tiles:
        variance_of_tile, mean_of_tile = torch.var_mean(_grouped(x, norm), dim=2, correction=0, keepdim=True)
        mean += mean_of_tile * (x.shape[2:].numel() / area)
        variance += variance_of_tile * (x.shape[2:].numel() / area)
    weight, bias = (values[:, None, None] for values in (norm.weight, norm.bias))
    rstd = (variance + norm.eps).rsqrt()
    return [((_grouped(x, norm) - mean) * rstd).view_as(x) * weight + bias for x in tiles]


def _grouped(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """(B, C, h, w) -> (B, groups, C / groups * h * w)."""
    return x.reshape(len(x), norm.num_groups, -1)
