"""The networks of a model and the parts that files bring: which tensors each needs, under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import ModelDims
from supir_core.networks.text import TextEncoders
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Vae

Shape = tuple[int, ...]

# In the order of published names: `project_modules` belongs to the UNet's prefix, `denoise_encoder` to the VAE's.
PREFIXES = {
    "unet": "model.diffusion_model.",
    "control": "model.control_model.",
    "vae": "first_stage_model.",
    "clip_l": "conditioner.embedders.0.transformer.text_model.",
    "open_clip": "conditioner.embedders.1.model.",
}

# Parts come from one file each. SUPIR's own stand first: two of them lie within the prefix of one of SDXL's.
PART_PREFIXES = {
    "control": PREFIXES["control"],
    "connectors": PREFIXES["unet"] + "project_modules.",
    "denoise_encoder": PREFIXES["vae"] + "denoise_encoder.",
    "unet": PREFIXES["unet"],
    "vae": PREFIXES["vae"],
    "clip_l": PREFIXES["clip_l"],
    "open_clip": PREFIXES["open_clip"],
}
SUPIR_PARTS = ("control", "connectors", "denoise_encoder")
SDXL_PARTS = ("unet", "vae", "clip_l", "open_clip")
VAE_PARTS = ("vae", "denoise_encoder")  # those in which float16 overflows

# Real files carry these; nothing here uses them.
UNUSED_KEYS = (
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.1.model.logit_scale",
    "denoiser.sigmas",
)
UNUSED_PREFIXES = (
    "model_ema.",
    # of whole CLIP models, which have a picture half too
    "conditioner.embedders.0.transformer.vision_model.",
    "conditioner.embedders.1.model.visual.",
)
UNUSED_ENDS = (
    ".position_ids",
    ".attn_mask",
    "embedders.0.transformer.logit_scale",
    "embedders.0.transformer.text_projection.weight",
    "embedders.0.transformer.visual_projection.weight",
)


@dataclass(frozen=True)
class Networks:
    """The networks of one model."""

    dims: ModelDims
    vae: Vae
    unet: UNet
    control: ControlBranch
    text: TextEncoders

    def components(self) -> Mapping[str, nn.Module]:
        """Modules by the names of `PREFIXES`."""
        return {
            "unet": self.unet,
            "control": self.control,
            "vae": self.vae,
            "clip_l": self.text.clip_l,
            "open_clip": self.text.open_clip,
        }


def build_networks(dims: ModelDims) -> Networks:
    """The networks without weights (on the meta device): a load must fill every tensor."""
    with torch.device("meta"):
        return Networks(dims, Vae(dims.vae), UNet(dims.unet), ControlBranch(dims.unet), TextEncoders(dims.text))


@cache
def wanted(dims: ModelDims) -> Mapping[str, Mapping[str, Shape]]:
    """The published names and shapes of every part."""
    parts: dict[str, dict[str, Shape]] = {part: {} for part in (*SDXL_PARTS, *SUPIR_PARTS)}
    for name, module in build_networks(dims).components().items():
        for key, tensor in module.state_dict().items():
            parts[part_of(PREFIXES[name] + key)][PREFIXES[name] + key] = tuple(tensor.shape)
    return parts


def part_of(key: str) -> str:
    """The part that a published name belongs to; empty if to none."""
    return next((part for part, prefix in PART_PREFIXES.items() if key.startswith(prefix)), "")


def is_unused(key: str) -> bool:
    """Whether real files carry this tensor although nothing uses it."""
    return key in UNUSED_KEYS or key.startswith(UNUSED_PREFIXES) or key.endswith(UNUSED_ENDS)
