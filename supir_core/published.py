"""What a user gave - a file, or a folder in diffusers' layout - as tensors under the published names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core import diffusers_layout
from supir_core.checkpoint import Checkpoint, Entry, open_checkpoint
from supir_core.errors import WeightsError
from supir_core.networks.dims import ModelDims
from supir_core.parts import PREFIXES, Shape, wanted

_PROJECTION = PREFIXES["open_clip"] + "text_projection"
# Parts that lie in files of their own: a name that gives each away, and what its names lack of the published ones.
_BARE = {
    "unet": ("down_blocks.0.resnets.0.norm1.weight", PREFIXES["unet"]),
    "clip_l": ("text_model.final_layer_norm.weight", PREFIXES["clip_l"].removesuffix("text_model.")),
    "open_clip": ("transformer.resblocks.0.ln_1.weight", PREFIXES["open_clip"]),
    "vae": ("decoder.conv_in.weight", PREFIXES["vae"]),
}


class _Made(NamedTuple):
    """How a published tensor is made: pieces joined along the first axis, seen as `view` says."""

    pieces: tuple[tuple[Checkpoint, str], ...]
    view: str

    def entry(self) -> Entry:
        entries = [file.entries[name] for file, name in self.pieces]
        shape: Shape = entries[0].shape
        if len(entries) > 1 and all(entry.shape[1:] == shape[1:] for entry in entries):
            shape = (sum(entry.shape[0] for entry in entries), *shape[1:])
        if self.view == "transposed":
            shape = shape[::-1]
        if self.view == "1x1" and len(shape) == 2:
            shape = (*shape, 1, 1)
        return Entry(shape, entries[0].dtype)


@dataclass(frozen=True)
class Source:
    """Tensors of one file or folder under the published names; what has no such name keeps its own."""

    path: Path
    layout: str  # published, diffusers (and transformers), or bare: one part under its names without the prefix
    files: tuple[Checkpoint, ...]
    entries: Mapping[str, Entry]
    _made: Mapping[str, _Made]

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the first file says of itself."""
        return self.files[0].metadata

    def read(self, key: str) -> Tensor:
        """A tensor on the CPU, as stored; mapped from the file unless it is joined from several."""
        tensors = [file.read(name) for file, name in self._made[key].pieces]
        tensor = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        return tensor.T if self._made[key].view == "transposed" else tensor.reshape(self.entries[key].shape)


def open_source(path: Path, dims: ModelDims) -> Source:
    """A file, or a folder with unet/, vae/, text_encoder/ and text_encoder_2/.

    Raises:
        WeightsError: see `open_checkpoint`.
    """
    if not path.is_dir():
        file = open_checkpoint(path)
        layout, part = _layout(file, dims)
        return _source(path, layout, {part: [file]}, dims)
    groups = diffusers_layout.find_files(path)
    if not groups:
        raise WeightsError(
            f"{path} is a folder, but holds no weights in diffusers' layout",
            hint="it needs unet/, vae/, text_encoder/ and text_encoder_2/ with .safetensors files",
            code="weights-not-found",
        )
    return _source(
        path, "diffusers", {part: [open_checkpoint(f) for f in files] for part, files in groups.items()}, dims
    )


def _layout(file: Checkpoint, dims: ModelDims) -> tuple[str, str]:
    """The layout of a file and, unless it is the published one, its part."""
    names = {diffusers_layout.modern(name): entry.shape for name, entry in file.entries.items()}
    part = next((part for part, (mark, _) in _BARE.items() if mark in names), "")
    if part == "clip_l":
        return "diffusers", "open_clip" if _is_second_encoder(names, dims) else "clip_l"
    if part == "unet" or (part == "vae" and "decoder.mid_block.resnets.0.norm1.weight" in names):
        return "diffusers", part
    return ("bare" if part else "published"), part


def _is_second_encoder(names: Mapping[str, Shape], dims: ModelDims) -> bool:
    """Both encoders have the same names in transformers' layout: the width tells them apart, else the projection."""
    widths = (dims.text.clip_l.width, dims.text.open_clip.width)
    shape = names["text_model.final_layer_norm.weight"]
    if widths[0] != widths[1] and shape in ((widths[0],), (widths[1],)):
        return shape == (widths[1],)
    return "text_projection.weight" in names


def _source(path: Path, layout: str, groups: Mapping[str, list[Checkpoint]], dims: ModelDims) -> Source:
    made: dict[str, _Made] = {}
    for part, files in groups.items():
        pieces = {name: (file, name) for file in files for name in file.entries}
        if layout == "published":
            made.update({key: _Made((piece,), "") for key, piece in pieces.items()})
            if _PROJECTION not in made and _PROJECTION + ".weight" in made:
                made[_PROJECTION] = _Made(made.pop(_PROJECTION + ".weight").pieces, "transposed")
            continue
        if layout == "diffusers":
            pieces = {diffusers_layout.modern(name): piece for name, piece in pieces.items()}
            made.update(_take(pieces, part, dims))
        made.update({_BARE[part][1] + name: _Made((piece,), "") for name, piece in pieces.items()})
    opened = tuple(file for group in groups.values() for file in group)
    return Source(path, layout, opened, {key: how.entry() for key, how in made.items()}, made)


def _take(pieces: dict[str, tuple[Checkpoint, str]], part: str, dims: ModelDims) -> dict[str, _Made]:
    """The published tensors that can be made; what they are made of is taken out of `pieces`."""
    prefix = PREFIXES[part]
    keys = [key.removeprefix(prefix) for key in wanted(dims)[part]]
    return {
        prefix + key: _Made(tuple(pieces.pop(name) for name in recipe.names), recipe.view)
        for key, recipe in diffusers_layout.recipes(part, keys, dims).items()
        if all(name in pieces for name in recipe.names)
    }
