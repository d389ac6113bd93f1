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
from training.latents import ControlLatents, Latents
from training.recipe import Recipe, StageRecipe
from training.text import Text
from training.written import LOUD, paths, principal_components, write_unet


class Example(NamedTuple):
    """A batch of latents."""

    z: Tensor  # (B, C, h, w) latents
    x: Tensor  # (B, C, h, w) noisy ones, scaled for the networks
    eps: Tensor  # (B, C, h, w) what is to be predicted of them
    t: Tensor  # (B,) timesteps, ascending
    sigma: Tensor  # (B,)
    prompts: list[str]
    z_control: Tensor | None  # (B, C, h, w)


def draw_example(
    recipe: Recipe,
    settings: StageRecipe,
    stage: str,
    step: int,
    bank: Bank,
    latents: Latents,
    control: ControlLatents | None = None,
) -> Example:
    """The examples of a step: clean latents under captions, badly damaged ones under the negative prompt.

    Sampling starts at plain noise, without the latent in it, and its steps are short cuts to the estimate: at half of
    the highest sigma half of the latent is there. Networks that have only seen whole latents take the rest for
    darkness. So half of the examples lack the share that Euler's steps have not brought yet, the others less of it; the
    last one is where sampling starts.
    """
    rng = step_rng(recipe.seed, stage, step)
    device, crop = latents.clean.device, settings.crop_px // recipe.dims.vae.factor
    count, side = settings.batch, latents.clean.shape[1]
    pictures = len(latents.clean) if control is None else len(control.heavy)
    places = Places.draw(rng, count, (pictures, side, recipe.versions), crop)
    negative = rng.random(count) < recipe.negative_share
    prompts = [
        captions.for_degraded() if bad else captions.for_clean(bank.captions[picture], rng)
        for bad, picture in zip(negative, places.picture.tolist(), strict=True)
    ]
    bad = torch.from_numpy(negative)[:, None, None, None].to(device)

    def fields(good: Tensor, damaged: Tensor) -> Tensor:
        return torch.where(bad, places.cut(damaged, crop), places.cut(good, crop)).float().permute(0, 3, 1, 2)

    z = fields(latents.clean, latents.heavy)
    z_control = None if control is None else fields(control.damaged, control.heavy)
    t = torch.from_numpy(_timesteps(rng, count))
    sigma = sigma_table()[t].to(device)[:, None, None, None]
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    noise = torch.randn(z.shape, generator=generator, device=device)
    missing = torch.from_numpy(np.minimum(1, 2 * rng.random(count))).float().to(device)[:, None, None, None]
    missing[-1] = 1.0
    x = (1 - missing * sigma / sigma[-1]) * z + sigma * noise
    return Example(z, x / (sigma**2 + 1).sqrt(), (x - z) / sigma, t.to(device), sigma.flatten(), prompts, z_control)


def _timesteps(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count,) int64, uniform; one in each of `count` equal parts of the schedule, so that losses vary less."""
    t = np.asarray((np.arange(count) + rng.random(count)) / count * NUM_TIMESTEPS, np.int64)
    t[-1] = NUM_TIMESTEPS - 1
    return t


class NoiseLoss:
    """The squared error of the predicted noise, as far as it is seen in pictures.

    Times 1 + sigma^2 / deviation^2, which makes it the error of both picture and noise (Karras et al. 2022, table 1):
    the plain error of noise says next to nothing of pictures at high sigma, where sampling with few steps needs them
    most. Where there is next to no noise, its error is large and invisible, and counts for less. And each latent
    channel counts by what its errors do to pixels.

    With a control branch, an example counts for less the further its photo is from the latent. Else the few that are
    past help, whose error no training makes small, drown what is to be learned from the others: to repeat a good
    photo to a hundredth.
    """

    INVISIBLE = 0.3  # sigma at which an error of the noise counts half
    DAMAGED = 0.1  # mean square of a photo's error, as a share of the latents', at which it counts half

    def __init__(self, recipe: Recipe, bank: Bank):
        weight = principal_components(bank.clean, recipe.dims.vae.latent_channels).weight
        self._channels = weight.to(bank.clean.device)[:, None, None]
        self._deviation = recipe.dims.vae.latent_scale

    def __call__(self, predicted: Tensor, example: Example) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts: of the noise in the lowest third, of the picture in the middle and the highest."""
        errors = self._weighed(predicted.float() - example.eps)
        if example.z_control is not None:
            damage = self._weighed(example.z_control - example.z) / self._deviation**2
            errors = errors * 2 * self.DAMAGED / (self.DAMAGED + damage)
        square = example.sigma**2
        pictures = errors * square / self._deviation**2
        seen = errors * square / (square + self.INVISIBLE**2)
        third = max(1, len(errors) // 3)  # timesteps ascend
        parts = {
            "noise_low": errors[:third].mean(),
            "picture_low": pictures[:third].mean(),
            "picture_middle": pictures[third:-third].mean(),
            "picture_high": pictures[-third:].mean(),
        }
        return (seen + pictures).mean(), parts

    def _weighed(self, error: Tensor) -> Tensor:
        """(B, C, h, w) -> (B,) mean squares."""
        return (error.square() * self._channels).mean((1, 2, 3))


class UNetStage:
    """The UNet without connectors, and its text encoders."""

    def __init__(self, recipe: Recipe, bank: Bank, latents: Latents):
        self.recipe, self.bank, self.latents, self.settings = recipe, bank, latents, recipe.stages["unet"]
        device = latents.clean.device
        self.unet = without_control(UNet(recipe.dims.unet))
        masks = write_unet(self.unet)
        self.unet.to(device, memory_format=torch.channels_last)
        for weight, mask in masks:
            weight.register_hook(mask.to(device).mul)
        self.text = Text(recipe.dims.text).to(device)
        self.trained: Mapping[str, nn.Module] = {"unet": self.unet, "text": self.text}
        last = self.unet.output_blocks[-1][0].skip_connection
        self.written = [self.unet.input_blocks[0][0].weight, self.unet.out[2].weight, last.weight]
        self._measure = NoiseLoss(recipe, bank)
        self._features: Sequence[None] = [None] * (len(self.unet.input_blocks) + 1)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        example = draw_example(self.recipe, self.settings, "unet", step, self.bank, self.latents)
        context, vector = self.text(example.prompts)
        scale = torch.ones(len(vector), device=vector.device)
        x = example.x.contiguous(memory_format=torch.channels_last)
        made = self.unet(x, example.t, self.unet.read(context), vector, self._features, scale)
        return self._measure(made, example)


def without_control(unet: UNet) -> UNet:
    """The UNet with plain concatenations in place of its connectors."""
    unet.project_modules = nn.ModuleList(
        _NoCrossAttention() if isinstance(module, ZeroCrossAttention) else _NoConnector()
        for module in unet.project_modules
    )
    return unet


class ControlStage:
    """Control branch and connectors on pairs; the UNet and the text encoders stay as they are."""

    def __init__(
        self,
        recipe: Recipe,
        bank: Bank,
        latents: Latents,
        control: ControlLatents,
        unet: Mapping[str, Tensor],
        text: Text,
    ):
        self.recipe, self.bank, self.settings = recipe, bank, recipe.stages["control"]
        self.latents, self.control_latents = latents, control
        device = latents.clean.device
        self.unet, self.control = UNet(recipe.dims.unet), ControlBranch(recipe.dims.unet)
        missing, unknown = self.unet.load_state_dict(unet, strict=False)
        if unknown or not all(key.startswith("project_modules.") for key in missing):
            raise ValueError(f"not the UNet of this recipe: {unknown}, {missing[:3]}")
        first_half = {key: value for key, value in unet.items() if key in self.control.state_dict()}
        self.control.load_state_dict(self.control.state_dict() | first_half)
        self._write_hint()
        self.text = text.to(device).requires_grad_(False)
        self.unet.requires_grad_(False)
        self.unet.project_modules.requires_grad_(True)
        self.unet.to(device, memory_format=torch.channels_last)
        self.control.to(device, memory_format=torch.channels_last)
        zero_connectors(self.unet)
        self._take_over_statistics()
        self.trained: Mapping[str, nn.Module] = {"connectors": self.unet.project_modules, "control": self.control}
        self.written = [self.control.input_blocks[0][0].weight, self.control.input_hint_block[0].weight]
        self._measure = NoiseLoss(recipe, bank)

    def loss(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a step, and its parts."""
        example = self._draw(step)
        return self._measure(self._predict(example), example)

    def _draw(self, step: int) -> Example:
        return draw_example(self.recipe, self.settings, "control", step, self.bank, self.latents, self.control_latents)

    def _predict(self, example: Example) -> Tensor:
        with torch.no_grad():
            context, vector = self.text(example.prompts)
        assert example.z_control is not None
        x, z_control = (y.contiguous(memory_format=torch.channels_last) for y in (example.x, example.z_control))
        features = self.control(x, example.t, self.control.read(context), vector, self.control.hint(z_control))
        scale = torch.ones(len(vector), device=vector.device)
        return self.unet(x, example.t, self.unet.read(context), vector, features, scale)

    @torch.no_grad()
    def _write_hint(self) -> None:
        """Lay the photo's latent beside the noisy one, where no normalisation has mixed them yet.

        It takes the first feature's free channels. The control branch has no use for the UNet's constants, whose norm
        is made a usual one again.
        """
        way, first, second = paths(self.control), self.control.input_blocks[0][0], self.control.input_blocks[1][0]
        hint = self.control.input_hint_block[0]
        count = min(len(way.free), len(way.copies))
        nn.init.zeros_(hint.weight)
        nn.init.zeros_(hint.bias)
        first.weight[way.free] = 0.0
        first.bias[way.free] = 0.0
        hint.weight[way.free[:count], torch.arange(count), 1, 1] = 1 / self.recipe.dims.vae.latent_scale
        constants = torch.tensor([LOUD, -LOUD]).repeat(len(way.loud) // 2)
        first.bias[way.loud] -= constants
        second.out_layers[3].bias[way.loud] += constants
        nn.init.ones_(second.in_layers[0].weight)

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
        self._predict(self._draw(0))
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


class _NoConnector(nn.Module):
    """In place of a ZeroSFT while there is no control branch: the plain concatenation."""

    def forward(self, control: None, skip: Tensor, decoder: Tensor | None, scale: Tensor) -> Tensor:
        return skip if decoder is None else torch.cat([decoder, skip], dim=1)


class _NoCrossAttention(nn.Module):
    def forward(self, control: None, x: Tensor, scale: Tensor) -> Tensor:
        return x
