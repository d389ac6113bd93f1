"""Stages 3 and 4: the UNet with its text encoders, then control branch and connectors."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from supir_core.networks.connectors import ZeroCrossAttention, ZeroSFT
from supir_core.networks.control import ControlBranch
from supir_core.networks.unet import UNet
from supir_core.schedule import NUM_TIMESTEPS, sigma_table
from training import captions
from training.bank import Bank, Places, step_rng
from training.latents import Latents
from training.recipe import Recipe, StageRecipe
from training.text import Text


class Example(NamedTuple):
    """A batch of latents."""

    x: Tensor  # (B, C, h, w) noisy latents, scaled for the networks
    eps: Tensor  # (B, C, h, w) their noise
    t: Tensor  # (B,) timesteps
    weight: Tensor  # (B,) of the squared error
    prompts: list[str]
    z_control: Tensor  # (B, C, h, w)


def draw_example(recipe: Recipe, settings: StageRecipe, stage: str, step: int, bank: Bank, latents: Latents) -> Example:
    """The examples of a step: clean latents under captions, badly damaged ones under the negative prompt."""
    rng = step_rng(recipe.seed, stage, step)
    device, crop = latents.clean.device, settings.crop_px // recipe.dims.vae.factor
    count, side = settings.batch, latents.clean.shape[1]
    places = Places.draw(rng, count, (len(latents.clean), side, recipe.versions), crop)
    negative = rng.random(count) < recipe.negative_share
    prompts = [
        captions.for_degraded() if bad else captions.for_clean(bank.captions[picture], rng)
        for bad, picture in zip(negative, places.picture.tolist(), strict=True)
    ]
    bad = torch.from_numpy(negative)[:, None, None, None].to(device)
    z = torch.where(bad, places.cut(latents.heavy, crop), places.cut(latents.clean, crop))
    z_control = torch.where(bad, places.cut(latents.heavy_control, crop), places.cut(latents.control, crop))
    z, z_control = (field.float().permute(0, 3, 1, 2) for field in (z, z_control))
    t = torch.from_numpy(_timesteps(rng, count))
    sigma = sigma_table()[t].to(device)[:, None, None, None]
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    eps = torch.randn(z.shape, generator=generator, device=device)
    x = (z + sigma * eps) / (sigma**2 + 1).sqrt()
    return Example(x, eps, t.to(device), 1 + sigma.flatten() ** 2, prompts, z_control)


def _timesteps(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) int64, uniform; one in each of `count` equal parts of the schedule, so that losses vary less."""
    return np.asarray((np.arange(count) + rng.random(count)) / count * NUM_TIMESTEPS, np.int64)


def noise_loss(predicted: Tensor, example: Example) -> tuple[Tensor, dict[str, Tensor]]:
    """The error of the predicted noise, times 1 + sigma^2.

    Plain squared error of noise says next to nothing of pictures at high sigma, where sampling with few steps needs
    them most. This weight makes it the error of both picture and noise (Salimans and Ho 2022, SNR + 1).
    """
    errors = (predicted.float() - example.eps).square().mean((1, 2, 3))
    third = max(1, len(errors) // 3)  # timesteps ascend
    parts = {"noise_low": errors[:third].mean(), "picture_high": (errors * (example.weight - 1))[-third:].mean()}
    return (errors * example.weight).mean(), parts


class UNetStage:
    """The UNet without connectors, and its text encoders."""

    def __init__(self, recipe: Recipe, bank: Bank, latents: Latents):
        self.recipe, self.bank, self.latents, self.settings = recipe, bank, latents, recipe.stages["unet"]
        device = latents.clean.device
        self.unet = UNet(recipe.dims.unet)
        nn.init.zeros_(self.unet.out[2].weight)
        for module in transformers_of(self.unet):
            nn.init.zeros_(module.proj_out.weight)
        self.unet.project_modules = nn.ModuleList(
            _NoCrossAttention() if isinstance(module, ZeroCrossAttention) else _NoConnector()
            for module in self.unet.project_modules
        )
        self.unet.to(device, memory_format=torch.channels_last)
        self.text = Text(recipe.dims.text).to(device)
        self.trained: Mapping[str, nn.Module] = {"unet": self.unet, "text": self.text}
        self._features: Sequence[None] = [None] * (len(self.unet.input_blocks) + 1)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        example = draw_example(self.recipe, self.settings, "unet", step, self.bank, self.latents)
        context, vector = self.text(example.prompts)
        scale = torch.ones(len(vector), device=vector.device)
        x = example.x.contiguous(memory_format=torch.channels_last)
        made = self.unet(x, example.t, self.unet.read(context), vector, self._features, scale)
        return noise_loss(made, example)

    def finish(self) -> dict[str, float]:
        """Nothing more."""
        return {}


class ControlStage:
    """Control branch and connectors on pairs; the UNet and the text encoders stay as they are."""

    def __init__(self, recipe: Recipe, bank: Bank, latents: Latents, unet: Mapping[str, Tensor], text: Text):
        self.recipe, self.bank, self.latents, self.settings = recipe, bank, latents, recipe.stages["control"]
        device = latents.clean.device
        self.unet, self.control = UNet(recipe.dims.unet), ControlBranch(recipe.dims.unet)
        missing, unknown = self.unet.load_state_dict(unet, strict=False)
        if unknown or not all(key.startswith("project_modules.") for key in missing):
            raise ValueError(f"not the UNet of this recipe: {unknown}, {missing[:3]}")
        first_half = {key: value for key, value in unet.items() if key in self.control.state_dict()}
        hint = {f"input_hint_block.0.{name}": unet[f"input_blocks.0.0.{name}"] for name in ("weight", "bias")}
        self.control.load_state_dict(first_half | hint)
        self.text = text.to(device).requires_grad_(False)
        self.unet.requires_grad_(False)
        self.unet.project_modules.requires_grad_(True)
        self.unet.to(device, memory_format=torch.channels_last)
        self.control.to(device, memory_format=torch.channels_last)
        zero_connectors(self.unet)
        self._take_over_statistics()
        self.trained: Mapping[str, nn.Module] = {"connectors": self.unet.project_modules, "control": self.control}

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        example = draw_example(self.recipe, self.settings, "control", step, self.bank, self.latents)
        return noise_loss(self._predict(example), example)

    def finish(self) -> dict[str, float]:
        """Nothing more."""
        return {}

    def _predict(self, example: Example) -> Tensor:
        with torch.no_grad():
            context, vector = self.text(example.prompts)
        x, z_control = (y.contiguous(memory_format=torch.channels_last) for y in (example.x, example.z_control))
        features = self.control(x, example.t, self.control.read(context), vector, self.control.hint(z_control))
        scale = torch.ones(len(vector), device=vector.device)
        return self.unet(x, example.t, self.unet.read(context), vector, features, scale)

    @torch.no_grad()
    def _take_over_statistics(self) -> None:
        """Make connectors start as what they replace, as far as that goes.

        With all else at zero a ZeroSFT still normalises what passes through it. Its norm gets the scale and shift that
        undo this on average; so training starts close to the frozen UNet, not at a broken one.
        """
        hooks = [
            module.param_free_norm.register_forward_pre_hook(_undo_norm)
            for module in self.unet.project_modules
            if isinstance(module, ZeroSFT)
        ]
        self._predict(draw_example(self.recipe, self.settings, "control", 0, self.bank, self.latents))
        for hook in hooks:
            hook.remove()


def _undo_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Set weight and bias of a GroupNorm to its groups' mean deviation and mean on this input."""
    assert isinstance(norm, nn.GroupNorm)
    groups = inputs[0].float().unflatten(1, (norm.num_groups, -1)).flatten(2)  # (B, groups, channels * h * w)
    per_group = norm.num_channels // norm.num_groups
    norm.weight.copy_(groups.std(dim=2).mean(0).repeat_interleave(per_group))
    norm.bias.copy_(groups.mean(dim=2).mean(0).repeat_interleave(per_group))


def zero_connectors(unet: UNet) -> None:
    """Set what lets the control branch into the UNet to zero."""
    for module in unet.project_modules:
        if isinstance(module, ZeroSFT):
            layers: list[nn.Module] = [module.zero_mul, module.zero_add, module.zero_conv]
        else:
            assert isinstance(module, ZeroCrossAttention)
            layers = [module.attn.to_out[0]]
        for parameter in itertools.chain.from_iterable(layer.parameters() for layer in layers):
            nn.init.zeros_(parameter)


def transformers_of(unet: UNet) -> list[nn.Module]:
    """The UNet's spatial transformers."""
    return [module for module in unet.modules() if hasattr(module, "transformer_blocks")]


class _NoConnector(nn.Module):
    """In place of a ZeroSFT while there is no control branch: the plain concatenation."""

    def forward(self, control: None, skip: Tensor, decoder: Tensor | None, scale: Tensor) -> Tensor:
        return skip if decoder is None else torch.cat([decoder, skip], dim=1)


class _NoCrossAttention(nn.Module):
    def forward(self, control: None, x: Tensor, scale: Tensor) -> Tensor:
        return x
