"""The autoencoder: SDXL's, with SUPIR's second, degradation-robust encoder."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.networks.blocks import TRANSFORMER_NORM_EPS, Upsample, to_map, to_tokens
from supir_core.networks.dims import VaeDims


class Posterior(NamedTuple):
    """What an encoder says of a latent: a Gaussian per cell, not yet times the VAE scale."""

    mean: Tensor  # (B, 4, h, w)
    std: Tensor  # (B, 4, h, w)

    def sample(self, noise: Tensor) -> Tensor:
        """One draw, for noise of the same shape from N(0, 1)."""
        return self.mean + self.std * noise


class ResBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=TRANSFORMER_NORM_EPS)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=TRANSFORMER_NORM_EPS)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class _Attention(nn.Module):
    """Single-head attention of every cell over every cell."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=TRANSFORMER_NORM_EPS)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        # Contiguous, (B, 1, h * w, C): else torch computes whole matrices of scores, 37 GiB at 2048 x 2048 pixels.
        q, k, v = (to_tokens(conv(y))[:, None].contiguous() for conv in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj_out(to_map(y, x))


class Downsample(nn.Module):
    """Half the height and width."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # right and bottom only, as published


class _Middle(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.block_1 = ResBlock(channels, channels, groups)
        self.attn_1 = _Attention(channels, groups)
        self.block_2 = ResBlock(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """The residual blocks of one resolution and the way to the next: `downsample`, `upsample` or neither."""

    downsample: Downsample
    upsample: Upsample

    def __init__(
        self, channels_in: int, channels_out: int, blocks: int, groups: int, resample: Downsample | Upsample | None
    ):
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResBlock(a, b, groups) for a, b in pairwise(widths))
        if isinstance(resample, Upsample):
            self.upsample = resample
        elif resample is not None:
            self.downsample = resample

    def forward(self, x: Tensor) -> Tensor:
        """Blocks, then resampling."""
        for block in self.block:
            x = block(x)
        for name in ("downsample", "upsample"):  # a level has one of them, or none
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Encoder(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> (B, 2 * latent_channels, H / factor, W / factor)."""

    def __init__(self, dims: VaeDims):
        super().__init__()
        widths = [dims.channels * m for m in dims.channel_mult]
        self.conv_in = nn.Conv2d(3, dims.channels, 3, padding=1)
        self.down = nn.ModuleList()
        channels = dims.channels
        for level, width in enumerate(widths):
            down = Downsample(width) if level < len(widths) - 1 else None
            self.down.append(Level(channels, width, dims.res_blocks, dims.norm_groups, down))
            channels = width
        self.mid = _Middle(channels, dims.norm_groups)
        self.norm_out = nn.GroupNorm(dims.norm_groups, channels, eps=TRANSFORMER_NORM_EPS)
        self.conv_out = nn.Conv2d(channels, 2 * dims.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The raw network output, before `quant_conv`."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Latent (B, latent_channels, h, w) -> image (B, 3, H, W)."""

    def __init__(self, dims: VaeDims):
        super().__init__()
        widths = [dims.channels * m for m in dims.channel_mult]
        channels = widths[-1]
        self.conv_in = nn.Conv2d(dims.latent_channels, channels, 3, padding=1)
        self.mid = _Middle(channels, dims.norm_groups)
        levels: list[nn.Module] = []
        for level, width in reversed(list(enumerate(widths))):
            up = Upsample(width) if level > 0 else None
            levels.append(Level(channels, width, dims.res_blocks + 1, dims.norm_groups, up))
            channels = width
        self.up = nn.ModuleList(reversed(levels))  # up.0 is the finest, as published
        self.norm_out = nn.GroupNorm(dims.norm_groups, channels, eps=TRANSFORMER_NORM_EPS)
        self.conv_out = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """The decoded image; may exceed [-1, 1] a little."""
        h = self.mid(self.conv_in(z))
        for level in reversed(list(self.up)):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Vae(nn.Module):
    """Two encoders and a decoder around one latent space."""

    def __init__(self, dims: VaeDims):
        super().__init__()
        self.dims = dims
        self.encoder = Encoder(dims)
        self.denoise_encoder = Encoder(dims)
        self.decoder = Decoder(dims)
        self.quant_conv = nn.Conv2d(2 * dims.latent_channels, 2 * dims.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(dims.latent_channels, dims.latent_channels, 1)

    def encode(self, x: Tensor) -> Posterior:
        """Posterior of a clean image (B, 3, H, W) in [-1, 1]."""
        return self.posterior(self.encoder(x))

    def encode_degraded(self, x: Tensor) -> Posterior:
        """Posterior of the clean image behind a degraded one (paper section 3.1, the degradation-robust encoder)."""
        return self.posterior(self.denoise_encoder(x))

    def posterior(self, out: Tensor) -> Posterior:
        """What an encoder's raw output says."""
        mean, log_var = self.quant_conv(out).chunk(2, dim=1)
        return Posterior(mean, torch.exp(0.5 * log_var.clamp(-30, 20)))

    def decode(self, z: Tensor) -> Tensor:
        """Image (B, 3, H, W) of a latent (B, 4, h, w) that is not times the VAE scale."""
        return self.decoder(self.post_quant_conv(z))
