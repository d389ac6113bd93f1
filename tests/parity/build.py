"""Networks with the golden data's formula weights, at the sizes that its JSON files give."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import nn

from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import ClipDims, ModelDims, TextDims, UNetDims, VaeDims
from supir_core.networks.text import TextEncoders
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Vae
from supir_core.weights import PREFIXES, Networks
from tests.formula import formula_tensor

NORM_GROUPS = 32
SIZE_NUMBERS = 6  # numbers in the size vector, each embedded with `outdim` channels

Module = TypeVar("Module", bound=nn.Module)


def unet_dims(config: Mapping[str, Any], latent_channels: int) -> UNetDims:
    """Sizes of UNet and control branch; what the JSON does not say is the same at every width."""
    return UNetDims(
        channels=config["model_channels"],
        channel_mult=(1, 2, 4),
        res_blocks=2,
        transformer_depth=tuple(config["transformer_depth"]),
        head_channels=config["num_head_channels"],
        context_dim=config["context_dim"],
        vector_dim=config["adm_in_channels"],
        latent_channels=latent_channels,
        norm_groups=NORM_GROUPS,
        connector_hidden=128,
        connector_head_channels=64,
    )


def vae_dims(config: Mapping[str, Any], latent_scale: float) -> VaeDims:
    """Sizes of the autoencoder."""
    return VaeDims(
        config["ch"],
        tuple(config["ch_mult"]),
        config["num_res_blocks"],
        config["z_channels"],
        NORM_GROUPS,
        latent_scale,
    )


def clip_dims(config: Mapping[str, Any]) -> ClipDims:
    """Sizes of one text encoder; open_clip's inner layer is four times its width."""
    width = config["width"]
    return ClipDims(
        width, config["heads"], config["layers"], config.get("inter", 4 * width), config.get("embed_dim", width)
    )


def text_dims(config: Mapping[str, Any]) -> TextDims:
    """Sizes of both text encoders."""
    return TextDims(clip_dims(config["clip_l"]), clip_dims(config["open_clip"]), config["outdim"])


def with_formula_weights(module: Module, component: str) -> Module:
    """The module, built on the meta device, with every tensor set by the formula."""
    prefix = PREFIXES[component]
    state = {key: formula_tensor(prefix + key, tuple(value.shape)) for key, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    module.requires_grad_(False).eval()
    return module


@lru_cache(maxsize=2)
def unet(dims: UNetDims) -> UNet:
    """The UNet with connectors."""
    with torch.device("meta"):
        module = UNet(dims)
    return with_formula_weights(module, "unet")


@lru_cache(maxsize=2)
def control(dims: UNetDims) -> ControlBranch:
    """The control branch."""
    with torch.device("meta"):
        module = ControlBranch(dims)
    return with_formula_weights(module, "control")


@lru_cache(maxsize=2)
def vae(dims: VaeDims) -> Vae:
    """The autoencoder."""
    with torch.device("meta"):
        module = Vae(dims)
    return with_formula_weights(module, "vae")


def text(dims: TextDims, clip_l: bool = True, open_clip: bool = True) -> TextEncoders:
    """The text encoders; one that is not asked for stays without weights."""
    with torch.device("meta"):
        module = TextEncoders(dims)
    if clip_l:
        with_formula_weights(module.clip_l, "clip_l")
    if open_clip:
        with_formula_weights(module.open_clip, "open_clip")
    return module


def networks(dims: ModelDims) -> Networks:
    """All networks of a model."""
    return Networks(dims, vae(dims.vae), unet(dims.unet), control(dims.unet), text(dims.text))
