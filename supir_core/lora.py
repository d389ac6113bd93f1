"""LoRA files in kohya naming, merged into the weights: W + scale * alpha / rank * up @ down.

A LoRA names a layer by its path with `_` for `.`: lora_unet_* for the UNet, in the published names or in diffusers',
lora_te1_* and lora_te2_* for the text encoders in transformers' names. Underscores cannot be undone, so the names of
all layers are written forth and looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from supir_core import diffusers_layout
from supir_core.checkpoint import Checkpoint, is_finite, open_checkpoint, some
from supir_core.errors import WeightsError
from supir_core.networks.dims import ModelDims
from supir_core.parts import PREFIXES, Shape, wanted

_NAMES = {"unet": "lora_unet_", "clip_l": "lora_te1_", "open_clip": "lora_te2_"}
_DOWN, _UP, _ALPHA = "lora_down.weight", "lora_up.weight", "alpha"
_OTHER_KINDS = (".lora_A.", ".lora_B.", "lora.down.", ".hada_", ".lokr_", ".dora_scale", ".lora_mid.", ".oft_")


class Target(NamedTuple):
    """The rows of a published weight that a layer's name stands for."""

    key: str
    start: int
    shape: Shape  # of the layer's own weight
    transposed: bool  # stored the other way round under the published name


@dataclass(frozen=True)
class Lora:
    """One opened LoRA; tensors are read when it is merged."""

    file: Checkpoint
    scale: float
    layers: Mapping[str, tuple[tuple[str, Target], ...]]  # published key -> layers' names that change it


@cache
def targets(dims: ModelDims) -> Mapping[str, Target]:
    """Every layer's name in kohya naming and what it stands for."""
    found: dict[str, Target] = {}
    for part, start_of_name in _NAMES.items():
        prefix, shapes = PREFIXES[part], wanted(dims)[part]
        recipes = diffusers_layout.recipes(part, [key.removeprefix(prefix) for key in shapes], dims)
        for short, recipe in recipes.items():
            shape = shapes[prefix + short]
            if len(shape) < 2 or "embedding" in short:
                continue
            transposed = recipe.view == "transposed"
            own = shape[::-1] if transposed else (shape[0] // len(recipe.names), *shape[1:])
            for index, name in enumerate(recipe.names):
                target = Target(prefix + short, index * own[0], own, transposed)
                found[start_of_name + _underscored(name)] = target
                if part == "unet":
                    found[start_of_name + _underscored(short)] = target
    return found


def _underscored(name: str) -> str:
    return name.removesuffix(".weight").replace(".", "_")


def is_lora(names: Iterable[str]) -> bool:
    """Whether a file's names are those of a LoRA, of whatever kind."""
    marks = (".lora_down.", ".lora_up.", *_OTHER_KINDS)
    return any(mark in name for name in names for mark in marks)


def open_lora(path: Path, scale: float, dims: ModelDims) -> Lora:
    """A LoRA whose every tensor has a place in the model.

    Raises:
        WeightsError: as `open_checkpoint` does; `weights-lora` for keys without a place or pair, or another kind of
            file; `weights-shape` for a layer of another size.
    """
    return resolve(open_checkpoint(path), scale, dims)


def resolve(file: Checkpoint, scale: float, dims: ModelDims) -> Lora:
    """As `open_lora`, for an opened file."""
    known = targets(dims)
    layers: dict[str, set[str]] = {}
    lost: list[str] = []
    for name in file.entries:
        layer, _, kind = name.partition(".")
        if layer in known and kind in (_DOWN, _UP, _ALPHA):
            layers.setdefault(layer, set()).add(kind)
        else:
            lost.append(name)
    if lost:
        raise _misfit(file, lost)
    half = [layer for layer, kinds in layers.items() if not {_DOWN, _UP} <= kinds]
    if half:
        raise WeightsError(
            f"{file.path} lacks lora_up or lora_down of {len(half)} layers: {some(half)}",
            hint="the file is incomplete: get it again",
            code="weights-lora",
        )
    by_key: dict[str, list[tuple[str, Target]]] = {}
    for layer in layers:
        _check_shapes(file, layer, known[layer])
        by_key.setdefault(known[layer].key, []).append((layer, known[layer]))
    for key, found in by_key.items():
        if len({target for _, target in found}) < len(found):
            names = some([layer for layer, _ in found])
            raise WeightsError(f"{file.path} changes {key} under two names: {names}", code="weights-lora")
    return Lora(file, scale, {key: tuple(found) for key, found in by_key.items()})


def _misfit(file: Checkpoint, lost: list[str]) -> WeightsError:
    if not is_lora(file.entries):
        hint = "it is not a LoRA: see what it is with supir weights check"
    elif any(mark in name for name in lost for mark in _OTHER_KINDS):
        hint = "only plain LoRA in kohya naming is merged (lora_up, lora_down, alpha); convert it or leave it out"
    elif any(name.startswith("lora_te_") for name in lost):
        hint = "it looks like a LoRA of Stable Diffusion 1 or 2; an SDXL LoRA names lora_te1_ and lora_te2_"
    else:
        hint = "is it a LoRA of another model than SDXL?"
    return WeightsError(
        f"{file.path} holds {len(lost)} tensors that have no place in the model: {some(lost)}",
        hint=hint,
        code="weights-lora",
    )


def _check_shapes(file: Checkpoint, layer: str, target: Target) -> None:
    down, up = (file.entries[f"{layer}.{kind}"].shape for kind in (_DOWN, _UP))
    window = target.shape[1:]
    fits = (
        len(down) >= 2
        and len(up) >= 2
        and (down[1:] == window or down[1:] == (*window, 1, 1))
        and up[:2] == (target.shape[0], down[0])
        and all(side == 1 for side in up[2:])
    )
    if not fits:
        raise WeightsError(
            f"{layer} in {file.path} is {up} x {down}, which does not fit a weight of {target.shape}",
            hint="is it a LoRA of another model than SDXL?",
            code="weights-shape",
        )


def merge(weight: Tensor, key: str, loras: Sequence[Lora]) -> Tensor:
    """A weight with all LoRAs added, as float32; the very same tensor where none changes it.

    Raises:
        WeightsError: a LoRA holds NaN or infinity (`weights-nan`).
    """
    for lora in loras:
        for layer, target in lora.layers.get(key, ()):
            delta = _delta(lora, layer, target)
            weight = weight.float().clone()
            if target.transposed:
                weight += delta.T
            else:
                weight[target.start : target.start + target.shape[0]] += delta
    return weight


def _delta(lora: Lora, layer: str, target: Target) -> Tensor:
    down, up = (lora.file.read(f"{layer}.{kind}").float() for kind in (_DOWN, _UP))
    rank = down.shape[0]
    alpha = float(lora.file.read(f"{layer}.{_ALPHA}")) if f"{layer}.{_ALPHA}" in lora.file.entries else float(rank)
    delta = (lora.scale * alpha / rank) * (up.flatten(1) @ down.flatten(1))
    if not is_finite(delta):
        raise WeightsError(
            f"{layer} in {lora.file.path} holds NaN or infinity",
            hint="the file is broken: get it again, or leave it out",
            code="weights-nan",
        )
    return delta.reshape(target.shape)
