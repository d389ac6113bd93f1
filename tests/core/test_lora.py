from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from supir_core.lora import Lora, is_lora, merge, open_lora, targets
from supir_core.networks.dims import FULL
from supir_core.parts import PREFIXES, wanted
from supir_core.published import open_source
from supir_core.roles import Role, judge
from tests.core.tiny_model import SDXL, SUPIR, TINY, put, raises

UNET, CLIP_L, OPEN_CLIP = PREFIXES["unet"], PREFIXES["clip_l"], PREFIXES["open_clip"]
RANK = 3


def layer(name: str, down: tuple[int, ...], up: tuple[int, ...], alpha: float | None = 1.5) -> dict[str, Tensor]:
    """One layer of a LoRA."""
    generator = torch.Generator().manual_seed(len(name))
    content = {
        f"{name}.lora_down.weight": torch.randn(down, generator=generator),
        f"{name}.lora_up.weight": torch.randn(up, generator=generator),
    }
    return content if alpha is None else content | {f"{name}.alpha": torch.tensor(alpha)}


def opened(path: Path, content: Mapping[str, Tensor], scale: float = 1.0) -> Lora:
    save_file({key: tensor.contiguous() for key, tensor in content.items()}, path / "lora.safetensors")
    return open_lora(path / "lora.safetensors", scale, TINY)


BLOCK = "input_blocks_3_1_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize("name", [BLOCK, "down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"])
@pytest.mark.parametrize("scale", [1.0, -0.4])
@pytest.mark.parametrize(("alpha", "factor"), [(1.5, 0.5), (None, 1.0)])
def test_a_linear_layer(name: str, scale: float, alpha: float | None, factor: float, tmp_path: Path) -> None:
    key = UNET + "input_blocks.3.1.transformer_blocks.0.attn1.to_q.weight"
    content = layer(f"lora_unet_{name}", (RANK, 64), (64, RANK), alpha)
    down, up = content[f"lora_unet_{name}.lora_down.weight"], content[f"lora_unet_{name}.lora_up.weight"]
    merged = merge(SDXL[key], key, [opened(tmp_path, content, scale)])
    torch.testing.assert_close(merged, SDXL[key] + scale * factor * up @ down)


@pytest.mark.parametrize("window", [(), (1, 1)], ids=["linear", "1x1"])
def test_a_linear_layer_may_be_written_as_a_convolution(window: tuple[int, ...], tmp_path: Path) -> None:
    name, key = "lora_unet_input_blocks_3_1_proj_in", UNET + "input_blocks.3.1.proj_in.weight"
    content = layer(name, (RANK, 64, *window), (64, RANK, *window))
    down, up = content[f"{name}.lora_down.weight"].flatten(1), content[f"{name}.lora_up.weight"].flatten(1)
    merged = merge(SDXL[key], key, [opened(tmp_path, content)])
    torch.testing.assert_close(merged, SDXL[key] + 0.5 * up @ down)


@pytest.mark.parametrize(
    ("name", "key", "window"),
    [
        ("input_blocks_1_0_in_layers_2", "input_blocks.1.0.in_layers.2.weight", 3),
        ("down_blocks_0_resnets_0_conv1", "input_blocks.1.0.in_layers.2.weight", 3),
        ("input_blocks_2_0_op", "input_blocks.2.0.op.weight", 3),
        ("input_blocks_3_0_skip_connection", "input_blocks.3.0.skip_connection.weight", 1),
    ],
)
def test_a_convolution(name: str, key: str, window: int, tmp_path: Path) -> None:
    """Merged weights give what the two convolutions give beside the original one."""
    key = UNET + key
    out, in_ = SDXL[key].shape[:2]
    content = layer(f"lora_unet_{name}", (RANK, in_, window, window), (out, RANK, 1, 1))
    down, up = content[f"lora_unet_{name}.lora_down.weight"], content[f"lora_unet_{name}.lora_up.weight"]
    merged = merge(SDXL[key], key, [opened(tmp_path, content, 0.7)])
    x = torch.randn(1, in_, 8, 8, generator=torch.Generator().manual_seed(0))
    beside = torch.conv2d(torch.conv2d(x, down), up)
    torch.testing.assert_close(
        torch.conv2d(x, merged), torch.conv2d(x, SDXL[key]) + 0.7 * 0.5 * beside, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("which", "index"), [("q", 0), ("k", 1), ("v", 2)])
def test_the_second_encoders_queries_keys_and_values_are_rows_of_one_weight(
    which: str, index: int, tmp_path: Path
) -> None:
    name = f"lora_te2_text_model_encoder_layers_1_self_attn_{which}_proj"
    key = OPEN_CLIP + "transformer.resblocks.1.attn.in_proj_weight"
    content = layer(name, (RANK, 64), (64, RANK))
    expected = SDXL[key].clone()
    expected[64 * index : 64 * (index + 1)] += (
        0.5 * content[f"{name}.lora_up.weight"] @ content[f"{name}.lora_down.weight"]
    )
    torch.testing.assert_close(merge(SDXL[key], key, [opened(tmp_path, content)]), expected)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", CLIP_L + "encoder.layers.0.mlp.fc1.weight"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc2", OPEN_CLIP + "transformer.resblocks.0.mlp.c_proj.weight"),
        ("lora_te2_text_projection", OPEN_CLIP + "text_projection"),
    ],
)
def test_text_encoders(name: str, key: str, tmp_path: Path) -> None:
    out, in_ = SDXL[key].shape if key.endswith(".weight") else SDXL[key].shape[::-1]
    content = layer(name, (RANK, in_), (out, RANK))
    delta = 0.5 * content[f"{name}.lora_up.weight"] @ content[f"{name}.lora_down.weight"]
    merged = merge(SDXL[key], key, [opened(tmp_path, content)])
    torch.testing.assert_close(merged, SDXL[key] + (delta if key.endswith(".weight") else delta.T))


def test_several_loras_add_up_and_leave_the_weights_alone(tmp_path: Path) -> None:
    key = UNET + "input_blocks.3.1.transformer_blocks.0.attn1.to_q.weight"
    lora = opened(tmp_path, layer(f"lora_unet_{BLOCK}", (RANK, 64), (64, RANK)))
    before = SDXL[key].clone()
    once, twice = merge(SDXL[key], key, [lora]), merge(SDXL[key], key, [lora, lora])
    torch.testing.assert_close(twice - SDXL[key], 2 * (once - SDXL[key]))
    assert torch.equal(SDXL[key], before)
    other = UNET + "out.2.weight"
    assert merge(SDXL[other], other, [lora]) is SDXL[other]


def test_half_precision_is_merged_in_float32(tmp_path: Path) -> None:
    key = UNET + "input_blocks.3.1.transformer_blocks.0.attn1.to_q.weight"
    content = {k: v.half() for k, v in layer(f"lora_unet_{BLOCK}", (RANK, 64), (64, RANK)).items()}
    merged = merge(SDXL[key].bfloat16(), key, [opened(tmp_path, content)])
    down, up = (content[f"lora_unet_{BLOCK}.lora_{part}.weight"].float() for part in ("down", "up"))
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, SDXL[key].bfloat16().float() + 0.5 * up @ down)


# What does not belong.


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (layer("lora_unet_input_blocks_9_1_proj_in", (3, 64), (64, 3)), "another model than SDXL"),
        (layer("lora_te_text_model_encoder_layers_0_mlp_fc1", (3, 32), (64, 3)), "Stable Diffusion 1 or 2"),
        ({f"lora_unet_{BLOCK}.hada_w1_a": torch.zeros(64, 3)}, "only plain LoRA"),
        ({f"lora_unet_{BLOCK}.dora_scale": torch.zeros(64)}, "only plain LoRA"),
        ({"unet.down_blocks.1.attentions.0.proj_in.lora_A.weight": torch.zeros(3, 64)}, "only plain LoRA"),
        ({"model.control_model.time_embed.0.weight": torch.zeros(1)}, "not a LoRA"),
    ],
)
def test_keys_without_a_place(content: dict[str, Tensor], hint: str, tmp_path: Path) -> None:
    with raises("weights-lora", "lora.safetensors", "have no place", next(iter(content))) as caught:
        opened(tmp_path, content)
    assert hint in caught.value.hint


@pytest.mark.parametrize("half", ["lora_up", "lora_down"])
def test_half_a_pair(half: str, tmp_path: Path) -> None:
    content = {k: v for k, v in layer(f"lora_unet_{BLOCK}", (3, 64), (64, 3)).items() if half not in k}
    with raises("weights-lora", "lacks lora_up or lora_down", BLOCK):
        opened(tmp_path, content)


@pytest.mark.parametrize(
    ("down", "up"), [((3, 32), (64, 3)), ((3, 64), (32, 3)), ((3, 64), (64, 4)), ((3, 64, 3, 3), (64, 3, 1, 1))]
)
def test_a_layer_of_another_size(down: tuple[int, ...], up: tuple[int, ...], tmp_path: Path) -> None:
    with raises("weights-shape", BLOCK):
        opened(tmp_path, layer(f"lora_unet_{BLOCK}", down, up))


def test_one_layer_under_two_names(tmp_path: Path) -> None:
    other = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"
    with raises("weights-lora", "under two names", other):
        opened(tmp_path, {**layer(f"lora_unet_{BLOCK}", (3, 64), (64, 3)), **layer(other, (3, 64), (64, 3))})


def test_nan(tmp_path: Path) -> None:
    content = layer(f"lora_unet_{BLOCK}", (3, 64), (64, 3), alpha=float("nan"))
    lora = opened(tmp_path, content)
    key = UNET + "input_blocks.3.1.transformer_blocks.0.attn1.to_q.weight"
    with raises("weights-nan", BLOCK, "lora.safetensors"):
        merge(SDXL[key], key, [lora])


def test_what_a_lora_is() -> None:
    assert is_lora(layer(f"lora_unet_{BLOCK}", (3, 64), (64, 3)))
    assert not is_lora(SDXL | SUPIR)


@pytest.mark.parametrize(("fits", "codes"), [(True, []), (False, ["weights-lora"])])
def test_the_role_of_a_lora(fits: bool, codes: list[str], tmp_path: Path) -> None:
    put(tmp_path, {"lora.safetensors": layer(f"lora_unet_{BLOCK if fits else 'nowhere'}", (3, 64), (64, 3))})
    found = judge(open_source(tmp_path / "lora.safetensors", TINY), TINY)
    assert (found.role, [error.code for error in found.errors()]) == (Role.LORA, codes)


# Coverage at full size.


def test_every_layer_of_the_full_unet_has_both_names() -> None:
    known = targets(FULL)
    for key, shape in wanted(FULL)["unet"].items():
        module = key.removeprefix(UNET).removesuffix(".weight")
        if len(shape) >= 2:
            target = known["lora_unet_" + module.replace(".", "_")]
            assert (target.key, target.start, target.shape, target.transposed) == (key, 0, shape, False)
    keys = [target.key for name, target in known.items() if name.startswith("lora_unet_")]
    layers = {key for key, shape in wanted(FULL)["unet"].items() if len(shape) >= 2}
    assert set(keys) == layers
    own = {
        key for key in layers if key.endswith(".proj_in.weight") or ".proj_out" in key or "transformer_blocks" in key
    }
    assert len(keys) == 2 * len(layers)
    assert len(own) == 722  # what kohya's trainer reports for SDXL


def test_every_layer_of_the_full_text_encoders_has_a_name() -> None:
    names = list(targets(FULL))
    assert sum(name.startswith("lora_te1_") for name in names) == 72  # what kohya's trainer reports
    assert sum(name.startswith("lora_te2_") for name in names) == 192 + 1  # and the projection
    assert "lora_te2_text_model_encoder_layers_31_self_attn_out_proj" in names


@pytest.mark.parametrize("prefix", ["lora_unet_", "lora_te1_", "lora_te2_"])
def test_a_lora_of_all_tiny_layers(prefix: str, tmp_path: Path) -> None:
    content: dict[str, Tensor] = {}
    seen = set()
    for name, target in targets(TINY).items():
        if name.startswith(prefix) and target not in seen:
            seen.add(target)
            content |= layer(name, (2, *target.shape[1:]), (target.shape[0], 2, *(1 for _ in target.shape[2:])))
    lora = opened(tmp_path, content)
    for key in lora.layers:
        assert not torch.equal(merge(SDXL[key], key, [lora]), SDXL[key])
