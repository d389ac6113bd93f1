"""SDXL's UNet with SUPIR's connectors, and the trunk that it shares with the control branch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from supir_core.networks.blocks import (
    RES_NORM_EPS,
    Block,
    Downsample,
    ResBlock,
    SpatialTransformer,
    Upsample,
    run_layer,
    timestep_embedding,
)
from supir_core.networks.connectors import ZeroCrossAttention, ZeroSFT
from supir_core.networks.dims import UNetDims


class Trunk(nn.Module):
    """Embeddings, input blocks and middle block: the half that the UNet and the control branch have in common."""

    def __init__(self, dims: UNetDims):
        super().__init__()
        embedding = 4 * dims.channels
        self.dims = dims
        self._transformers: list[SpatialTransformer] = []  # in the order in which they run
        self.time_embed = nn.Sequential(nn.Linear(dims.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label_emb = nn.Sequential(
            nn.Sequential(nn.Linear(dims.vector_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        )
        channels = dims.channels
        self.input_blocks = nn.ModuleList([Block([nn.Conv2d(dims.latent_channels, channels, 3, padding=1)])])
        self.skip_channels = [channels]  # of each input block's output
        for level, mult in enumerate(dims.channel_mult):
            for _ in range(dims.res_blocks):
                layers: list[nn.Module] = [ResBlock(channels, mult * dims.channels, embedding, dims.norm_groups)]
                channels = mult * dims.channels
                if level > 0:
                    layers.append(self._transformer(level, channels))
                self.input_blocks.append(Block(layers))
                self.skip_channels.append(channels)
            if level < len(dims.channel_mult) - 1:
                self.input_blocks.append(Block([Downsample(channels)]))
                self.skip_channels.append(channels)
        self.middle_block = Block(
            [
                ResBlock(channels, channels, embedding, dims.norm_groups),
                self._transformer(len(dims.channel_mult) - 1, channels),
                ResBlock(channels, channels, embedding, dims.norm_groups),
            ]
        )
        self.middle_channels = channels

    def _transformer(self, level: int, channels: int) -> SpatialTransformer:
        d = self.dims
        self._transformers.append(
            SpatialTransformer(channels, d.transformer_depth[level], d.context_dim, d.head_channels, d.norm_groups)
        )
        return self._transformers[-1]

    def read(self, context: Tensor) -> Tensor:
        """Keys and values of every attention over the prompt, so that they are computed once and not in every step.

        Args:
            context: (B, L, context_dim) text tokens.

        Returns:
            (B, L, text width), the transformers' in the order in which they run.
        """
        return torch.cat([transformer.read(context) for transformer in self._transformers], dim=-1)

    def texts(self, text: Tensor) -> Iterator[Tensor]:
        """What `read` gave, transformer by transformer."""
        return iter(text.split([transformer.text_width for transformer in self._transformers], dim=-1))

    def embed(self, t: Tensor, vector: Tensor) -> Tensor:
        """Timesteps (B,) and vector (B, vector_dim) -> (B, 4 * channels)."""
        time = timestep_embedding(t, self.dims.channels).to(vector.dtype)
        return self.time_embed(time) + self.label_emb(vector)


class UNet(Trunk):
    """eps(x, t) steered by text, sizes and the control branch's features.

    The connectors are numbered as published: 11 after the middle block, then down to 0, one ZeroSFT per skip connection
    and one cross attention before each upsampling. They take the control features from the last to the first.
    """

    def __init__(self, dims: UNetDims):
        super().__init__(dims)
        connectors: list[nn.Module] = [self._zero_sft(self.middle_channels, self.middle_channels, 0)]
        channels = self.middle_channels
        skips = list(self.skip_channels)
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(dims.channel_mult))):
            for index in range(dims.res_blocks + 1):
                skip = skips.pop()
                connectors.append(self._zero_sft(skip, skip, channels))
                layers: list[nn.Module] = [
                    ResBlock(channels + skip, dims.channel_mult[level] * dims.channels, 4 * dims.channels,
                             dims.norm_groups)
                ]  # fmt: skip
                channels = dims.channel_mult[level] * dims.channels
                if level > 0:
                    layers.append(self._transformer(level, channels))
                if level > 0 and index == dims.res_blocks:
                    layers.append(Upsample(channels))
                    head = dims.connector_head_channels
                    connectors.append(ZeroCrossAttention(channels, skip, head, dims.norm_groups))
                self.output_blocks.append(Block(layers))
        self.project_modules = nn.ModuleList(reversed(connectors))
        self.out = nn.Sequential(
            nn.GroupNorm(dims.norm_groups, channels, eps=RES_NORM_EPS),
            nn.SiLU(),
            nn.Conv2d(channels, dims.latent_channels, 3, padding=1),
        )

    def _zero_sft(self, control: int, skip: int, decoder: int) -> ZeroSFT:
        return ZeroSFT(control, skip, decoder, self.dims.connector_hidden, self.dims.norm_groups)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        vector: Tensor,
        control: Sequence[Tensor],
        control_scale: Tensor,
    ) -> Tensor:
        """The predicted noise.

        Args:
            x: (B, 4, h, w) noisy latent, already scaled for the network.
            t: (B,) timesteps, 0 to 999.
            text: (B, L, text width) what `read` gave.
            vector: (B, vector_dim) pooled text and sizes.
            control: features of the control branch, from its first block to its middle block.
            control_scale: (B,) 0 switches the control branch off, 1 is full strength.

        Returns:
            (B, 4, h, w).
        """
        emb, texts = self.embed(t, vector), self.texts(text)
        scale = control_scale[:, None, None, None].to(x.dtype)
        features = list(control)
        connectors = list(self.project_modules)

        skips = []
        h = x
        for block in self.input_blocks:
            h = block(h, emb, texts)
            skips.append(h)
        h = self.middle_block(h, emb, texts)
        h = connectors.pop()(features.pop(), h, None, scale)
        for block in self.output_blocks:
            feature = features.pop()
            h = connectors.pop()(feature, skips.pop(), h, scale)
            for layer in cast(Block, block):
                if isinstance(layer, Upsample):
                    h = connectors.pop()(feature, h, scale)
                h = run_layer(layer, h, emb, texts)
        return self.out(h)
