"""The names are checked against a second table, written from diffusers' names to the published ones.

The implementation goes the other way, by arithmetic on block numbers; here every block is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from supir_core.checkpoint import Entry
from supir_core.diffusers_layout import Recipe, find_files, modern, recipes
from supir_core.networks.dims import FULL, ModelDims
from supir_core.parts import PREFIXES, SDXL_PARTS, wanted
from supir_core.precision import PRECISIONS
from supir_core.published import open_source
from supir_core.roles import Role, judge
from supir_core.weights import check_model, load_networks
from tests.core.tiny_model import SDXL, SUPIR, TINY, put, raises

# Full size: down_blocks.<level>.<kind>.<index> and so on -> the number of the published block, and the layer in it.
DOWN = {"0.resnets.0": "1.0", "0.resnets.1": "2.0", "0.downsamplers.0": "3.0",
        "1.resnets.0": "4.0", "1.attentions.0": "4.1", "1.resnets.1": "5.0", "1.attentions.1": "5.1",
        "1.downsamplers.0": "6.0",
        "2.resnets.0": "7.0", "2.attentions.0": "7.1", "2.resnets.1": "8.0", "2.attentions.1": "8.1"}  # fmt: skip
UP = {"0.resnets.0": "0.0", "0.attentions.0": "0.1", "0.resnets.1": "1.0", "0.attentions.1": "1.1",
      "0.resnets.2": "2.0", "0.attentions.2": "2.1", "0.upsamplers.0": "2.2",
      "1.resnets.0": "3.0", "1.attentions.0": "3.1", "1.resnets.1": "4.0", "1.attentions.1": "4.1",
      "1.resnets.2": "5.0", "1.attentions.2": "5.1", "1.upsamplers.0": "5.2",
      "2.resnets.0": "6.0", "2.resnets.1": "7.0", "2.resnets.2": "8.0"}  # fmt: skip
ENDS = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip
RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def published_unet_name(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    if module in ENDS:
        return f"{ENDS[module]}.{kind}"
    parts = name.split(".")
    side, place, rest = parts[0], ".".join(parts[1:4]), parts[4:]
    if side == "mid_block":
        place, rest = ".".join(parts[1:3]), parts[3:]
    inner = ".".join(rest)
    if "resnets" in place:
        inner = f"{RESNET['.'.join(rest[:-1])]}.{kind}"
    if "downsamplers" in place:
        inner = inner.replace("conv.", "op.")
    if side == "mid_block":
        return f"middle_block.{MIDDLE[place]}.{inner}"
    return f"input_blocks.{DOWN[place]}.{inner}" if side == "down_blocks" else f"output_blocks.{UP[place]}.{inner}"


def published_vae_name(name: str) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    for number in "0123":
        name = name.replace(f"decoder.up_blocks.{number}.", f"decoder.up.{3 - int(number)}.")
    name = name.replace("down_blocks", "down").replace("samplers.0", "sample")
    name = name.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    for theirs, ours in ATTENTION.items():
        name = name.replace(f"mid_block.attentions.0.{theirs}.", f"mid.attn_1.{ours}.")
    return name.replace("resnets", "block")


def table(part: str, dims: ModelDims = FULL) -> dict[str, Recipe]:
    prefix = PREFIXES[part]
    return recipes(part, [key.removeprefix(prefix) for key in wanted(dims)[part]], dims)


@pytest.mark.parametrize(("part", "back"), [("unet", published_unet_name), ("vae", published_vae_name)])
def test_every_full_size_name_and_its_way_back(part: str, back: object) -> None:
    assert callable(back)
    names = {key: recipe.names for key, recipe in table(part).items()}
    assert all(len(found) == 1 for found in names.values())
    assert {key: back(found[0]) for key, found in names.items()} == {key: key for key in names}


def test_no_name_stands_for_two_tensors() -> None:
    for part in SDXL_PARTS:
        names = [name for recipe in table(part).values() for name in recipe.names]
        assert len(names) == len(set(names)) == {"unet": 1680, "vae": 248, "clip_l": 196, "open_clip": 517}[part]


@pytest.mark.parametrize(
    ("part", "name", "shape"),
    [
        ("unet", "add_embedding.linear_1.weight", (1280, 2816)),
        ("unet", "down_blocks.0.downsamplers.0.conv.weight", (320, 320, 3, 3)),
        ("unet", "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k.weight", (640, 2048)),
        ("unet", "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj.weight", (10240, 1280)),
        ("unet", "up_blocks.0.upsamplers.0.conv.weight", (1280, 1280, 3, 3)),
        ("unet", "up_blocks.2.resnets.2.conv_shortcut.weight", (320, 640, 1, 1)),
        ("vae", "decoder.up_blocks.2.resnets.0.conv_shortcut.weight", (256, 512, 1, 1)),
        ("vae", "encoder.mid_block.attentions.0.to_out.0.bias", (512,)),
        ("clip_l", "text_model.embeddings.token_embedding.weight", (49408, 768)),
        ("open_clip", "text_model.encoder.layers.31.mlp.fc1.weight", (5120, 1280)),
    ],
)
def test_names_and_shapes_of_the_published_folders(part: str, name: str, shape: tuple[int, ...]) -> None:
    (key,) = [PREFIXES[part] + key for key, recipe in table(part).items() if recipe.names == (name,)]
    assert wanted(FULL)[part][key] == shape


def test_coarsest_levels_have_no_resampling() -> None:
    names = {name for recipe in table("unet").values() for name in recipe.names}
    assert not any(re.match(r"down_blocks\.2\.downsamplers|up_blocks\.2\.upsamplers", name) for name in names)


def test_the_second_encoder_keeps_queries_keys_and_values_apart() -> None:
    prefix = "text_model.encoder.layers.7.self_attn."
    assert table("open_clip")["transformer.resblocks.7.attn.in_proj_bias"] == Recipe(
        (prefix + "q_proj.bias", prefix + "k_proj.bias", prefix + "v_proj.bias")
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("encoder.mid_block.attentions.0.query.weight", "encoder.mid_block.attentions.0.to_q.weight"),
        ("decoder.mid_block.attentions.0.proj_attn.bias", "decoder.mid_block.attentions.0.to_out.0.bias"),
        ("embeddings.token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        ("encoder.layers.0.layer_norm1.bias", "text_model.encoder.layers.0.layer_norm1.bias"),
        ("encoder.conv_in.weight", "encoder.conv_in.weight"),
        ("mid_block.attentions.0.norm.weight", "mid_block.attentions.0.norm.weight"),
    ],
)
def test_names_of_other_versions(old: str, new: str) -> None:
    assert modern(old) == new


# A whole folder.


def folder_of(path: Path, variant: str = "", old_names: bool = False) -> Path:
    """The tiny SDXL as diffusers saves it."""
    for folder, part, file in (
        ("unet", "unet", f"diffusion_pytorch_model{variant}.safetensors"),
        ("vae", "vae", f"diffusion_pytorch_model{variant}.safetensors"),
        ("text_encoder", "clip_l", f"model{variant}.safetensors"),
        ("text_encoder_2", "open_clip", f"model{variant}.safetensors"),
    ):
        content = dict(split(part))
        if part in ("clip_l", "open_clip"):
            content["text_model.embeddings.position_ids"] = torch.zeros(1, 77, dtype=torch.int64)
        if old_names:
            for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
                content = {k.replace(f"ns.0.{new}.", f"ns.0.{old}."): v for k, v in content.items()}
            if part == "clip_l":
                content = {k.removeprefix("text_model."): v for k, v in content.items()}
        (path / folder).mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, path / folder / file)
    return put(path, {})


def split(part: str) -> Iterator[tuple[str, Tensor]]:
    """Published tensors of a part, taken apart."""
    for key, recipe in table(part, TINY).items():
        tensor = SDXL[PREFIXES[part] + key]
        if recipe.view == "transposed":
            tensor = tensor.T
        elif recipe.view == "1x1":
            tensor = tensor[:, :, 0, 0]
        yield from zip(recipe.names, tensor.chunk(len(recipe.names)), strict=True)


@pytest.mark.parametrize("old_names", [False, True])
def test_a_folder_reads_as_the_file_of_the_same_model(old_names: bool, tmp_path: Path) -> None:
    source = open_source(folder_of(tmp_path / "sdxl", old_names=old_names), TINY)
    found = judge(source, TINY)
    assert (found.role, source.layout, found.errors()) == (Role.SDXL, "diffusers", [])
    assert len(found.unused) == 2
    for key, tensor in SDXL.items():
        assert source.entries[key] == Entry(tuple(tensor.shape), "float32")
        assert torch.equal(source.read(key), tensor)


@pytest.mark.parametrize("where", [".", "sdxl"])
def test_a_model_directory_of_a_folder_and_a_supir_file(where: str, tmp_path: Path) -> None:
    folder_of(tmp_path / where)
    put(tmp_path, {"supir.safetensors": SUPIR})
    check_model(str(tmp_path))
    networks = load_networks(str(tmp_path), torch.device("cpu"), PRECISIONS["float32"])
    assert torch.equal(networks.text.open_clip.text_projection, SDXL[PREFIXES["open_clip"] + "text_projection"])
    assert networks.text.open_clip.text_projection.is_contiguous()


def test_a_folder_without_a_component(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    found = judge(open_source(tmp_path, TINY), TINY)
    assert [error.code for error in found.errors()] == ["weights-missing"]
    assert all(key.startswith("first_stage_model.") for key in found.missing)


def test_a_folder_with_a_tensor_of_none_of_the_names(tmp_path: Path) -> None:
    folder_of(tmp_path)
    save_file({"conv_in.weight": torch.zeros(1), **dict(split("unet")), "lost.bias": torch.zeros(1)},
              tmp_path / "unet" / "diffusion_pytorch_model.safetensors")  # fmt: skip
    found = judge(open_source(tmp_path, TINY), TINY)
    assert [error.code for error in found.errors()] == ["weights-unexpected"]
    assert "lost.bias" in str(found.errors()[0])


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with raises("weights-not-found", "diffusers' layout"):
        open_source(tmp_path, TINY)


def test_full_precision_is_taken_before_half_and_shards_belong_together(tmp_path: Path) -> None:
    unet = tmp_path / "unet"
    unet.mkdir()
    for name in ("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin", "openvino_model.bin"):
        (unet / name).touch()
    assert [file.name for file in find_files(tmp_path)["unet"]] == ["diffusion_pytorch_model.fp16.safetensors"]
    shards = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name in shards:
        (unet / name).touch()
    assert [file.name for file in find_files(tmp_path)["unet"]] == shards


def test_a_folder_in_shards(tmp_path: Path) -> None:
    folder_of(tmp_path)
    whole = tmp_path / "text_encoder_2" / "model.safetensors"
    whole.unlink()
    names = list(split("open_clip"))
    for index in (0, 1):  # queries, keys and values of a layer in different files
        save_file({k: v.contiguous() for k, v in names[index::2]}, whole.with_stem(f"model-0000{index + 1}-of-00002"))
    source = open_source(tmp_path, TINY)
    assert judge(source, TINY).errors() == []
    assert all(torch.equal(source.read(key), tensor) for key, tensor in SDXL.items())


@pytest.mark.parametrize("part", SDXL_PARTS)
def test_one_component_alone_is_recognised(part: str, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in split(part)}, file)
    source = open_source(file, TINY)
    role = {"unet": Role.SDXL, "vae": Role.VAE}.get(part, Role.TEXT)
    assert (judge(source, TINY).role, source.layout) == (role, "diffusers")
    assert set(source.entries) == set(wanted(TINY)[part])
