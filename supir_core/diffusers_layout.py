"""SDXL in diffusers' layout: folders of one component each, with names of their own. Imports no torch.

`recipes` is built from the published names, so that none can be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from supir_core.networks.dims import ModelDims

FOLDERS = {"unet": "unet", "vae": "vae", "text_encoder": "clip_l", "text_encoder_2": "open_clip"}  # -> part

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_VAE = (
    (r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.block\.", ".resnets."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)
_OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_OPEN_CLIP_ENDS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_OLD_VAE_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Recipe(NamedTuple):
    """How a published tensor is made from those of another layout."""

    names: tuple[str, ...]  # joined along the first axis
    view: str = ""  # afterwards: "transposed", or "1x1" for the weights of a linear layer as a convolution's


def recipes(part: str, keys: Iterable[str], dims: ModelDims) -> dict[str, Recipe]:
    """For the names of one part, without its prefix: what to make them from."""
    return {key: _recipe(part, key, dims) for key in keys}


def _recipe(part: str, key: str, dims: ModelDims) -> Recipe:
    if part == "unet":
        return Recipe((_unet_name(key, dims),))
    if part == "vae":
        is_attention = re.search(r"\.attn_1\.(q|k|v|proj_out)\.weight$", key)
        return Recipe((_vae_name(key, dims),), "1x1" if is_attention else "")
    if part == "clip_l":
        return Recipe(("text_model." + key,))
    return _open_clip(key)


def _unet_name(key: str, dims: ModelDims) -> str:
    module, _, kind = key.rpartition(".")
    if module in _UNET_ENDS:
        return f"{_UNET_ENDS[module]}.{kind}"
    name, index, *rest = module.split(".")
    per_level = dims.unet.res_blocks + 1
    if name == "middle_block":
        return f"mid_block.{_MIDDLE[index]}.{_within(rest)}.{kind}"
    layer, *rest = rest
    if name == "input_blocks":
        level, block = divmod(int(index) - 1, per_level)
        if rest == ["op"]:
            return f"down_blocks.{level}.downsamplers.0.conv.{kind}"
        return f"down_blocks.{level}.{('resnets', 'attentions')[int(layer)]}.{block}.{_within(rest)}.{kind}"
    level, block = divmod(int(index), per_level)
    if rest == ["conv"]:
        return f"up_blocks.{level}.upsamplers.0.conv.{kind}"
    return f"up_blocks.{level}.{('resnets', 'attentions')[int(layer)]}.{block}.{_within(rest)}.{kind}"


def _within(rest: list[str]) -> str:
    """Inside a residual block the names differ, inside a transformer they do not."""
    inner = ".".join(rest)
    return _RESNET.get(inner, inner)


def _vae_name(key: str, dims: ModelDims) -> str:
    levels = len(dims.vae.channel_mult)
    # up.0 is the finest level, up_blocks.0 the coarsest
    key = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", key)
    for pattern, name in _VAE:
        key = re.sub(pattern, name, key)
    return key


def _open_clip(key: str) -> Recipe:
    if key in _OPEN_CLIP_ENDS:
        return Recipe((_OPEN_CLIP_ENDS[key],), "transposed" if key == "text_projection" else "")
    _, _, layer, inner = key.split(".", 3)  # transformer.resblocks.N.
    prefix = f"text_model.encoder.layers.{layer}."
    if inner.startswith("attn.in_proj_"):
        kind = inner.removeprefix("attn.in_proj_")
        return Recipe(tuple(f"{prefix}self_attn.{which}_proj.{kind}" for which in "qkv"))
    module, _, kind = inner.rpartition(".")
    return Recipe((f"{prefix}{_OPEN_CLIP[module]}.{kind}",))


def modern(name: str) -> str:
    """A name as diffusers writes it: older files name the VAE's attention, newer ones the text encoder otherwise."""
    name = re.sub(r"^(embeddings|encoder\.layers|final_layer_norm)\.", r"text_model.\1.", name)
    return re.sub(
        r"(\.mid_block\.attentions\.0\.)(query|key|value|proj_attn)\.",
        lambda m: m[1] + _OLD_VAE_NAMES[m[2]] + ".",
        name,
    )


def find_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each part in a folder of diffusers' layout; empty if it is none.

    A component may lie there several times: full precision is taken before `.fp16`, .safetensors before .bin.
    """
    found = {part: _weights_in(folder / name) for name, part in FOLDERS.items()}
    return {part: files for part, files in found.items() if files} if found["unet"] else {}


def _weights_in(folder: Path) -> list[Path]:
    shard = r"(-\d+-of-\d+)?"
    for suffix in ("safetensors", "bin"):
        for variant in ("", r"\.fp16"):
            stem = r"(diffusion_pytorch_model|model|pytorch_model)"
            pattern = re.compile(rf"{stem}({shard}{variant}|{variant}{shard})\.{suffix}")
            files = (
                sorted(f for f in folder.glob(f"*.{suffix}") if pattern.fullmatch(f.name)) if folder.is_dir() else []
            )
            if files:
                return files
    return []
