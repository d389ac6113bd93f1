"""The bank's pictures as latents: what UNet and control branch train on, encoded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core.networks.vae import Vae
from training.bank import Bank, to_pixels
from training.recipe import Recipe
from training.written import POSTERIOR_STD, principal_components

AT_ONCE = {"cpu": 8, "cuda": 64}  # pictures


class Latents(NamedTuple):
    """N pictures in cells of `factor` pixels, float16, times the latent scale."""

    clean: Tensor  # (N, S, S, C) one draw of the encoder's posterior
    heavy: Tensor  # (N, S, S, C) of the badly damaged ones


class ControlLatents(NamedTuple):
    """What the denoise encoder makes of them, in the same form."""

    damaged: Tensor  # (versions, N, S, S, C)
    heavy: Tensor  # (N, S, S, C) of the badly damaged ones


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where it is faster: with so few channels a processor loses more by converting than it gains."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@torch.no_grad()
def encode_bank(bank: Bank, recipe: Recipe) -> Latents:
    """What the encoder, which is written down, gives; on the device of the bank."""
    components = principal_components(bank.clean, recipe.dims.vae.latent_channels).to(bank.clean.device)
    generator = torch.Generator().manual_seed(0)

    def encode(pixels: Tensor) -> Tensor:
        z = components.encode(to_pixels(pixels))
        z = z + POSTERIOR_STD * torch.randn(z.shape, generator=generator).to(z)
        return (z * recipe.dims.vae.latent_scale).permute(0, 2, 3, 1).half()

    return Latents(_in_parts(bank.clean, encode), _in_parts(bank.heavy, encode))


@torch.no_grad()
def encode_control(bank: Bank, count: int, vae: Vae, say: Callable[[str], None]) -> ControlLatents:
    """What the denoise encoder gives for the first `count` pictures, on the device of the bank."""

    def encode(pixels: Tensor) -> Tensor:
        with mixed_precision(pixels.device):
            mean = vae.encode_degraded(to_pixels(pixels)).mean
        return (mean.float() * vae.dims.latent_scale).permute(0, 2, 3, 1).half()

    damaged = []
    for version in bank.damaged:
        damaged.append(_in_parts(version[:count], encode))
        say(f"encoded {len(damaged[-1])} damaged pictures")
    return ControlLatents(torch.stack(damaged), _in_parts(bank.heavy[:count], encode))


def _in_parts(pixels: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([encode(part) for part in pixels.split(AT_ONCE[pixels.device.type])])
