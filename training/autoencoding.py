"""Stages 1 and 2: the decoder of a written-down encoder, and the encoder that sees through damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.networks.vae import Encoder, Vae
from training.bank import Bank, Places, step_rng, to_pixels
from training.recipe import Recipe
from training.written import POSTERIOR_STD, principal_components, write_decoder, write_encoder, written_in


class DecoderStage:
    """The decoder of principal components; the encoder that gives them is written down (`training.written`).

    No adversary and no perceptual networks: there is none without outside weights, and with 16 channels for 4 x 4
    pixels little is lost.
    """

    def __init__(self, recipe: Recipe, bank: Bank, device: torch.device):
        self.recipe, self.bank, self.settings = recipe, bank, recipe.stages["decoder"]
        self.components = principal_components(bank.clean, recipe.dims.vae.latent_channels).to(device)
        vae = Vae(recipe.dims.vae)
        del vae.denoise_encoder  # the next stage's
        write_encoder(vae, vae.encoder, self.components)
        write_decoder(vae, self.components)
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        self.vae = vae.to(device, memory_format=torch.channels_last)
        self.trained: Mapping[str, nn.Module] = dict(vae.named_children())
        self.written: Sequence[nn.Parameter] = [vae.decoder.conv_out.weight]

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        places, flips = _crops(self.recipe, self.bank, "decoder", step)
        crop = self.settings.crop_px
        soft = round(self.recipe.soft_share * self.settings.batch)
        crops = [places.cut(self.bank.clean, crop)[soft:], places.cut(self.bank.heavy, crop)[:soft]]
        x = _flipped(to_pixels(torch.cat(crops)), flips)
        z = self.components.encode(x)
        generator = torch.Generator(x.device).manual_seed(step)
        z = z + POSTERIOR_STD * torch.randn(z.shape, generator=generator, device=x.device)
        fit = picture_loss(self.vae.decode(z).float(), x, self.recipe.gradient)
        return fit, {"fit": fit}


class DenoiseEncoderStage:
    """The encoder fine-tuned on damaged pictures (paper section 3.1, the degradation-robust encoder).

    The paper asks that decode(encode(damaged)) be decode(encode(clean)). Here both are asked to be the clean picture,
    as a share of the batch is undamaged. In the decoder's place stands the components' linear inverse, which loses less
    and costs nothing.
    """

    def __init__(self, recipe: Recipe, bank: Bank, device: torch.device):
        self.recipe, self.bank, self.settings = recipe, bank, recipe.stages["denoise_encoder"]
        self.components = principal_components(bank.clean, recipe.dims.vae.latent_channels).to(device)
        vae = Vae(recipe.dims.vae)
        write_encoder(vae, vae.denoise_encoder, self.components)
        self.vae = vae.to(device, memory_format=torch.channels_last)
        self.encoder: Encoder = vae.denoise_encoder
        self.vae.quant_conv.requires_grad_(False)
        self.trained: Mapping[str, nn.Module] = {"denoise_encoder": self.encoder}
        self.written: Sequence[nn.Parameter] = written_in(self.encoder)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        crop = self.settings.crop_px
        places, flips = _crops(self.recipe, self.bank, "denoise_encoder", step)
        clean = _flipped(to_pixels(places.cut(self.bank.clean, crop)), flips)
        seen = _flipped(to_pixels(places.cut(self.bank.damaged, crop)), flips)
        untouched = round(self.recipe.untouched_share * len(seen))
        seen = torch.cat([clean[:untouched], seen[untouched:]]).contiguous(memory_format=torch.channels_last)
        made = self.components.decode(self.vae.posterior(self.encoder(seen)).mean.float())
        fit = picture_loss(made, clean, self.recipe.gradient)
        return fit, {"fit": fit, "error": (made - clean).square().mean(), "damage": (seen - clean).square().mean()}


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
