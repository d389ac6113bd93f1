"""Tokenizers, text encoders and conditioner; at full size one encoder at a time."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from supir_core.conditioning import SIZE_VECTOR, condition
from supir_core.networks.blocks import timestep_embedding
from supir_core.networks.dims import ClipDims, TextDims
from supir_core.networks.text import PROMPT_TOKENS, TextEncoders, Tokenizer, clip_l_ids
from tests.parity import build
from tests.parity.golden import GoldenFile
from tests.parity.limits import EXACT, TEXT, TEXT_FULL
from tests.parity.report import Group, Report

_TINY = ClipDims(width=32, heads=1, layers=1, mlp_width=32, projection=32)  # of the encoder that is not looked at


def check_text(file: GoldenFile, report: Report) -> None:
    """Both encoders at reduced size, from prompts to conditioning."""
    prompts: list[str] = file.setting("prompts")
    dims = build.text_dims(file.setting("config", "text"))
    encoders = build.text(dims)
    ids = Tokenizer()(prompts)
    with report.group(file, "prompts", "token ids", EXACT) as group:
        _compare_present(group, file, {"clip_l.input_ids": clip_l_ids(ids), "open_clip.input_ids": ids})
    with report.group(file, "prompts", "clip_l", TEXT) as group:
        found = {
            "clip_l.embeddings_out": _embeddings(encoders, clip_l_ids(ids)),
            "clip_l.hidden": encoders.encode_clip_l(clip_l_ids(ids)),
        }
        _compare_present(group, file, found)
    with report.group(file, "prompts", "open_clip", TEXT) as group:
        penultimate, pooled = encoders.encode_open_clip(ids)
        _compare_present(group, file, {"open_clip.penultimate": penultimate, "open_clip.pooled": pooled})
    with report.group(file, "prompts", "conditioner", TEXT) as group:
        cond = condition(encoders, dims.size_embedding, prompts)
        vector = _with_sizes(cond.vector, file, dims.size_embedding)
        _compare_present(group, file, {"conditioner.crossattn": cond.context, "conditioner.vector": vector})
    with report.group(file, "sizes", "timestep_embed", TEXT) as group:
        for name in file.starting_with("timestep_embed."):
            number = float(name.removeprefix("timestep_embed."))
            pair = timestep_embedding(torch.tensor([number, number]), dims.size_embedding)
            group.compare(name, pair.flatten()[None])


def check_clip_l(file: GoldenFile, report: Report) -> None:
    """CLIP-L alone, usually at full size."""
    encoders = build.text(TextDims(build.clip_dims(file.setting("config")), _TINY, 0), open_clip=False)
    ids = clip_l_ids(Tokenizer()(file.setting("prompts")))
    with report.group(file, "prompts", "token ids", EXACT) as group:
        _compare_present(group, file, {"input_ids": ids})
    with report.group(file, "prompts", "hidden", TEXT_FULL) as group:
        used = encoders.clip_l.config.num_hidden_layers - 1  # the state before the last layer
        _compare_positions(group, file, f"hidden_{used}", encoders.encode_clip_l(ids))


def check_bigg(file: GoldenFile, report: Report) -> None:
    """OpenCLIP alone, usually at full size."""
    encoders = build.text(TextDims(_TINY, build.clip_dims(file.setting("config")), 0), clip_l=False)
    ids = Tokenizer()(file.setting("prompts"))
    with report.group(file, "prompts", "token ids", EXACT) as group:
        _compare_present(group, file, {"input_ids": ids})
    with report.group(file, "prompts", "open_clip", TEXT_FULL) as group:
        penultimate, pooled = encoders.encode_open_clip(ids)
        _compare_positions(group, file, "penultimate", penultimate)
        _compare_present(group, file, {"pooled": pooled})


def _compare_present(group: Group, file: GoldenFile, found: dict[str, Tensor]) -> None:
    for name, ours in found.items():
        if name in file:
            group.compare(name, ours)


def _compare_positions(group: Group, file: GoldenFile, state: str, ours: Tensor) -> None:
    """`<state>.first8` and `<state>.last2` hold the first and last token positions of a state."""
    for name in file.starting_with(f"{state}."):
        if match := re.fullmatch(r"(first|last)(\d+)", name.removeprefix(f"{state}.")):
            count = int(match[2])
            group.compare(name, ours[:, :count] if match[1] == "first" else ours[:, -count:])


def _embeddings(encoders: TextEncoders, ids: Tensor) -> Tensor:
    embedded: Tensor = encoders.clip_l.embeddings(input_ids=ids, position_ids=torch.arange(PROMPT_TOKENS)[None])
    return embedded


def _with_sizes(vector: Tensor, file: GoldenFile, channels: int) -> Tensor:
    """The vector as it is, or with the file's sizes in place of the ones that the implementation always uses."""
    sizes = file.optional("sizes", None)
    if sizes is None:
        return vector
    given = (*sizes["original"], *sizes["crop"], *sizes["target"])
    if given == SIZE_VECTOR:
        return vector
    embedded = timestep_embedding(torch.tensor(given), channels).flatten()
    return torch.cat([vector[:, : -len(embedded)], embedded.expand(len(vector), -1)], dim=1)
