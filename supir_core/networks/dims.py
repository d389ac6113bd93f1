"""The sizes of the networks. `FULL` is SDXL with SUPIR; `DEMO` is the model in `demo_model`, made by `training`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supir_core.errors import WeightsError


@dataclass(frozen=True)
class VaeDims:
    """Sizes of the autoencoder; one latent cell is `factor` x `factor` pixels."""

    channels: int
    channel_mult: tuple[int, ...]
    res_blocks: int
    latent_channels: int
    norm_groups: int
    latent_scale: float  # latents are multiplied by this after encoding

    @property
    def factor(self) -> int:
        """Pixels per latent cell along one side."""
        return int(2 ** (len(self.channel_mult) - 1))


@dataclass(frozen=True)
class UNetDims:
    """Sizes of the UNet and of its copy, the control branch."""

    channels: int
    channel_mult: tuple[int, ...]
    res_blocks: int
    transformer_depth: tuple[int, ...]  # per level; level 0 has no attention
    head_channels: int
    context_dim: int
    vector_dim: int
    latent_channels: int
    norm_groups: int
    connector_hidden: int  # channels inside ZeroSFT
    connector_head_channels: int  # 64 in the published model, whatever head_channels is


@dataclass(frozen=True)
class ClipDims:
    """Sizes of one CLIP text transformer."""

    width: int
    heads: int
    layers: int
    mlp_width: int
    projection: int  # width of the pooled output; unused by CLIP-L


@dataclass(frozen=True)
class TextDims:
    """Sizes of the two text encoders and of the size embedding."""

    clip_l: ClipDims
    open_clip: ClipDims
    size_embedding: int  # channels per number of the size vector


@dataclass(frozen=True)
class ModelDims:
    """All sizes of one SUPIR model."""

    vae: VaeDims
    unet: UNetDims
    text: TextDims

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelDims:
        """The dimensions that `to_dict` wrote.

        Raises:
            WeightsError: a key is missing or unknown (code `weights-config`).
        """
        try:
            text = values["text"]
            return cls(
                vae=VaeDims(**_tuples(values["vae"])),
                unet=UNetDims(**_tuples(values["unet"])),
                text=TextDims(ClipDims(**text["clip_l"]), ClipDims(**text["open_clip"]), text["size_embedding"]),
            )
        except (KeyError, TypeError) as error:
            raise WeightsError(f"the model's dimensions do not parse: {error}", code="weights-config") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


FULL = ModelDims(
    vae=VaeDims(128, (1, 2, 4, 4), 2, latent_channels=4, norm_groups=32, latent_scale=0.13025),
    unet=UNetDims(
        channels=320,
        channel_mult=(1, 2, 4),
        res_blocks=2,
        transformer_depth=(1, 2, 10),
        head_channels=64,
        context_dim=2048,
        vector_dim=2816,
        latent_channels=4,
        norm_groups=32,
        connector_hidden=128,
        connector_head_channels=64,
    ),
    text=TextDims(ClipDims(768, 12, 12, 3072, 768), ClipDims(1280, 20, 32, 5120, 1280), size_embedding=256),
)

# Sizes are chosen for two CPU cores: channels cost a UNet little next to attention, so the level with most cells
# has none, and the next one is narrow. One layer of text: SDXL reads the layer before the last, which here is the sum
# of word and position; words the training never saw stay close to zero, and so without effect. Latents have a deviation
# of 2, where SDXL's have 1: so noise of the schedule's highest levels, where the networks must repeat their input to a
# few thousandths, matters less, and details are decided where the pull of tau_r is still felt.
DEMO = ModelDims(
    vae=VaeDims(32, (1, 2, 3), 2, latent_channels=16, norm_groups=8, latent_scale=2.0),
    unet=UNetDims(
        channels=48,
        channel_mult=(1, 1, 2, 2),
        res_blocks=1,
        transformer_depth=(1, 1, 1, 1),
        head_channels=48,
        context_dim=32,
        vector_dim=16 + 6 * 8,
        latent_channels=16,
        norm_groups=8,
        connector_hidden=32,
        connector_head_channels=48,
    ),
    text=TextDims(ClipDims(16, 1, 1, 32, 16), ClipDims(16, 1, 1, 32, 16), size_embedding=8),
)
