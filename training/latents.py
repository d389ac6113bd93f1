"""The bank's pictures as latents: what UNet and control branch train on, encoded once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core.networks.vae import Encoder, Vae
from training.bank import Bank, to_pixels

AT_ONCE = {"cpu": 8, "cuda": 64}  # pictures


class Latents(NamedTuple):
    """N pictures in cells of `factor` pixels, float16, times the latent scale."""

    clean: Tensor  # (N, S, S, C) one draw of the encoder's posterior
    heavy: Tensor  # (N, S, S, C) of the badly damaged ones
    control: Tensor  # (versions, N, S, S, C) the denoise encoder's, of the damaged ones
    heavy_control: Tensor  # (N, S, S, C) the denoise encoder's, of the badly damaged ones


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where it is faster: with so few channels a processor loses more by converting than it gains."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


@torch.no_grad()
def encode_bank(
    bank: Bank, count: int, vae: Vae, denoise_encoder: Encoder, scale: float, say: Callable[[str], None]
) -> Latents:
    """The latents of the first `count` pictures, on the device of the bank."""
    device = bank.clean.device
    generator = torch.Generator().manual_seed(0)

    def encode(pixels: Tensor, encoder: Encoder, *, sample: bool) -> Tensor:
        parts, batch = [], AT_ONCE[device.type]
        for start in range(0, min(count, len(pixels)), batch):
            x = to_pixels(pixels[start : min(start + batch, count)])
            with mixed_precision(device):
                posterior = vae.posterior(encoder(x))
            z = posterior.mean.float()
            if sample:
                z = z + posterior.std.float() * torch.randn(z.shape, generator=generator).to(z)
            parts.append((z * scale).permute(0, 2, 3, 1).half())
        latents = torch.cat(parts)
        say(f"encoded {len(latents)} pictures")
        return latents

    return Latents(
        encode(bank.clean, vae.encoder, sample=True),
        encode(bank.heavy, vae.encoder, sample=True),
        torch.stack([encode(version, denoise_encoder, sample=False) for version in bank.damaged]),
        encode(bank.heavy, denoise_encoder, sample=False),
    )
