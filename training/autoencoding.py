"""Stages 1 and 2: the autoencoder, and the encoder that sees through damage."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.networks.vae import Encoder, Vae
from training.bank import Bank, Places, step_rng, to_pixels
from training.recipe import Recipe


class AutoencoderStage:
    """Encoder and decoder of clean pictures: error of pixels and of edges, and a light pull of latents to N(0, 1).

    No adversary and no perceptual networks: there is none without outside weights, and with 16 channels for 4 x 4
    pixels little is lost.
    """

    def __init__(self, recipe: Recipe, bank: Bank, device: torch.device):
        self.recipe, self.bank, self.settings = recipe, bank, recipe.stages["autoencoder"]
        vae = Vae(recipe.dims.vae)
        parts = {name: module for name, module in vae.named_children() if name != "denoise_encoder"}
        del vae.denoise_encoder  # the next stage's
        self.vae = vae.to(device, memory_format=torch.channels_last)
        self.trained: Mapping[str, nn.Module] = parts

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        places, flips = _crops(self.recipe, self.bank, "autoencoder", step)
        x = _flipped(to_pixels(places.cut(self.bank.clean, self.settings.crop_px)), flips)
        posterior = self.vae.encode(x)
        generator = torch.Generator(x.device).manual_seed(step)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=x.device)
        mean, std = posterior.mean.float(), posterior.std.float()
        kl = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).mean()
        fit = picture_loss(self.vae.decode(posterior.sample(noise)).float(), x, self.recipe.gradient)
        return fit + self.recipe.kl * kl, {"fit": fit, "kl": kl}

    @torch.no_grad()
    def finish(self) -> dict[str, float]:
        """The scale that gives latents a deviation of 1."""
        total = []
        for start in range(0, min(len(self.bank.clean), 64), 8):
            posterior = self.vae.encode(to_pixels(self.bank.clean[start : start + 8]))
            total.append((posterior.mean.float().square() + posterior.std.float().square()).mean())
        return {"latent_scale": float(1 / torch.stack(total).mean().sqrt())}


class DenoiseEncoderStage:
    """The encoder fine-tuned on damaged pictures, decoder fixed (paper section 3.1, the degradation-robust encoder).

    The paper asks that decode(encode(damaged)) be decode(encode(clean)). Here both are asked to be the clean picture,
    as a share of the batch is undamaged; and the latents those of the clean picture, which the control branch sees.
    """

    def __init__(self, recipe: Recipe, bank: Bank, device: torch.device, vae: Vae):
        self.recipe, self.bank, self.settings = recipe, bank, recipe.stages["denoise_encoder"]
        self.vae = vae.to(device, memory_format=torch.channels_last).requires_grad_(False)
        self.encoder: Encoder = copy.deepcopy(vae.encoder).requires_grad_(True)
        self.trained: Mapping[str, nn.Module] = {"denoise_encoder": self.encoder}

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        crop = self.settings.crop_px
        places, flips = _crops(self.recipe, self.bank, "denoise_encoder", step)
        clean = _flipped(to_pixels(places.cut(self.bank.clean, crop)), flips)
        seen = _flipped(to_pixels(places.cut(self.bank.damaged, crop)), flips)
        untouched = round(self.recipe.untouched_share * len(seen))
        seen = torch.cat([clean[:untouched], seen[untouched:]])
        with torch.no_grad():
            target = self.vae.encode(clean).mean.float()
        latent = self.vae.posterior(self.encoder(seen)).mean
        fit = picture_loss(self.vae.decode(latent).float(), clean, self.recipe.gradient)
        apart = F.mse_loss(latent.float(), target) / target.var()
        return fit + 0.02 * apart, {"fit": fit, "latent": apart}

    def finish(self) -> dict[str, float]:
        """Nothing more."""
        return {}


def picture_loss(made: Tensor, wanted: Tensor, gradient: float) -> Tensor:
    """Mean absolute error of pixels, and of differences between neighbours at two scales."""
    error = made - wanted  # (B, 3, H, W)
    loss = error.abs().mean()
    for scale in (1, 2):
        small = F.avg_pool2d(error, scale) if scale > 1 else error
        edges = small.diff(dim=2).abs().mean() + small.diff(dim=3).abs().mean()
        loss = loss + 0.5 * gradient * edges
    return loss


def _crops(recipe: Recipe, bank: Bank, stage: str, step: int) -> tuple[Places, tuple[bool, bool]]:
    """Where the crops lie, and whether they are mirrored and turned: damage has no side, photos have an up."""
    settings = recipe.stages[stage]
    rng = step_rng(recipe.seed, stage, step)
    shape = (len(bank.captions), recipe.picture_px, recipe.versions)
    places = Places.draw(rng, settings.batch, shape, settings.crop_px)
    return places, (rng.random() < 0.5, rng.random() < 0.25)


def _flipped(x: Tensor, flips: tuple[bool, bool]) -> Tensor:
    mirrored, turned = flips
    x = x.flip(3) if mirrored else x
    x = x.transpose(2, 3) if turned else x
    return x.contiguous(memory_format=torch.channels_last)
