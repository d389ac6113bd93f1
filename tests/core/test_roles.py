from __future__ import annotations

import gzip
import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from supir_core.networks.dims import FULL
from supir_core.parts import PREFIXES, SDXL_PARTS, SUPIR_PARTS, UNUSED_KEYS, part_of, wanted
from supir_core.published import open_source
from supir_core.roles import Report, Role, check_values, judge, require
from supir_core.weights import check_model
from tests.core.tiny_model import SDXL, SUPIR, TINY, put, raises, tensors

MANIFEST = Path(__file__).parent / "data" / "state_dict_manifest.json.gz"
CONTROL_KEY = "model.control_model.input_hint_block.0.weight"
OPEN_CLIP, CLIP_L = PREFIXES["open_clip"], PREFIXES["clip_l"]


def report(path: Path, content: dict[str, Tensor], name: str = "file.safetensors") -> Report:
    put(path, {name: content})
    return judge(open_source(path / name, TINY), TINY)


def codes(found: Report) -> list[str]:
    return [error.code for error in found.errors()]


@pytest.mark.parametrize(
    ("content", "role"),
    [
        (SDXL, Role.SDXL),
        (SUPIR, Role.SUPIR),
        (SDXL | SUPIR, Role.BOTH),
        (tensors("clip_l", "open_clip"), Role.TEXT),
        (tensors("clip_l"), Role.TEXT),
        (tensors("vae"), Role.VAE),
    ],
)
def test_whole_files(content: dict[str, Tensor], role: Role, tmp_path: Path) -> None:
    found = report(tmp_path, content)
    assert found.role == role
    assert found.errors() == []
    assert all(have == need for have, need in found.parts.values())
    assert sum(have for have, _ in found.parts.values()) == len(content)
    check_values(found)


def bare(part: str) -> dict[str, Tensor]:
    """A part in a file of its own, as its own project publishes it."""
    prefix = PREFIXES[part].removesuffix("text_model.")
    return {key.removeprefix(prefix): tensor for key, tensor in tensors(part).items()}


@pytest.mark.parametrize(
    ("part", "extra", "role", "layout"),
    [
        ("clip_l", ["text_model.embeddings.position_ids"], Role.TEXT, "diffusers"),
        ("clip_l", ["vision_model.x", "logit_scale", "text_projection.weight"], Role.TEXT, "diffusers"),
        ("open_clip", ["visual.proj", "logit_scale", "attn_mask"], Role.TEXT, "bare"),
        ("vae", [], Role.VAE, "bare"),
    ],
)
def test_parts_in_files_of_their_own(part: str, extra: list[str], role: Role, layout: str, tmp_path: Path) -> None:
    found = report(tmp_path, bare(part) | {key: torch.zeros(1) for key in extra})
    assert (found.role, found.source.layout, codes(found)) == (role, layout, [])
    for key, tensor in tensors(part).items():
        assert torch.equal(found.source.read(key), tensor)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("SUPIR-v0Q.safetensors", "v0Q, by its name"),
        ("SUPIR-v0F_fp16.safetensors", "v0F, by its name"),
        ("supir_v0f.safetensors", "v0F, by its name"),
        ("v0Q_or_v0F.safetensors", ""),
        ("v0qx.safetensors", ""),
        ("model.safetensors", ""),
    ],
)
def test_only_a_name_tells_v0q_from_v0f(name: str, variant: str, tmp_path: Path) -> None:
    found = report(tmp_path, SUPIR, name)
    assert found.variant == variant
    assert found.title == (f"SUPIR {variant}" if variant else "SUPIR (v0Q or v0F)")


def test_the_name_of_a_file_does_not_decide_its_role(tmp_path: Path) -> None:
    assert report(tmp_path, SDXL, "SUPIR-v0Q.safetensors").role == Role.SDXL
    assert report(tmp_path, SUPIR, "sd_xl_base_1.0.safetensors").role == Role.SUPIR


def test_extra_tensors_of_real_files_are_named_as_unused(tmp_path: Path) -> None:
    extra = {key: torch.zeros(3, dtype=torch.int64) for key in (*UNUSED_KEYS, "model_ema.decay")}
    found = report(tmp_path, SDXL | extra)
    assert sorted(found.unused) == sorted(extra)
    assert found.errors() == []
    assert found.dtypes == {"float32": len(SDXL)}


def test_the_projection_of_the_second_encoder_in_transformers_layout(tmp_path: Path) -> None:
    content = dict(SDXL)
    projection = content.pop(OPEN_CLIP + "text_projection")
    assert projection.shape == (64, 48)
    content[OPEN_CLIP + "text_projection.weight"] = projection.T
    found = report(tmp_path, content)
    assert found.errors() == []
    assert torch.equal(found.source.read(OPEN_CLIP + "text_projection"), projection)


def test_a_missing_tensor(tmp_path: Path) -> None:
    found = report(tmp_path, {key: tensor for key, tensor in SUPIR.items() if key != CONTROL_KEY})
    assert found.missing == [CONTROL_KEY]
    assert codes(found) == ["weights-missing"]
    assert CONTROL_KEY in str(found.errors()[0])


def test_many_missing_tensors_are_named_by_the_first_five(tmp_path: Path) -> None:
    found = report(tmp_path, tensors("unet"))
    (error,) = found.errors()
    assert f"lacks {len(SDXL) - len(tensors('unet'))} tensors: {', '.join(found.missing[:5])}, ..." in str(error)


def test_a_wrong_shape(tmp_path: Path) -> None:
    found = report(tmp_path, {**SUPIR, CONTROL_KEY: torch.zeros(32, 9, 3, 3)})
    assert found.misshapen == [(CONTROL_KEY, (32, 9, 3, 3), (32, 4, 3, 3))]
    assert codes(found) == ["weights-shape"]


def test_an_unexpected_tensor(tmp_path: Path) -> None:
    found = report(tmp_path, {**SUPIR, "model.control_model.extra.weight": torch.zeros(1)})
    assert found.unexpected == ["model.control_model.extra.weight"]
    assert codes(found) == ["weights-unexpected"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    found = report(tmp_path, {key: tensor.to(dtype) for key, tensor in SUPIR.items()})
    assert found.errors() == []
    assert found.dtypes == {str(dtype).removeprefix("torch."): len(SUPIR)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.int8, torch.float8_e4m3fn], ids=str)
def test_other_number_types_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    found = report(tmp_path, {**SUPIR, CONTROL_KEY: SUPIR[CONTROL_KEY].to(dtype)})
    assert codes(found) == ["weights-dtype"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity(value: float, tmp_path: Path) -> None:
    spoiled = SUPIR[CONTROL_KEY].clone()
    spoiled[3, 2, 1, 1] = value
    found = report(tmp_path, {**SUPIR, CONTROL_KEY: spoiled})
    assert found.errors() == []  # the header does not show it
    with raises("weights-nan", CONTROL_KEY):
        check_values(found)


@pytest.mark.parametrize(
    ("key", "seems"),
    [
        ("cond_stage_model.transformer.text_model.final_layer_norm.weight", "Stable Diffusion 1 or 2"),
        ("conditioner.embedders.0.model.ln_final.weight", "the SDXL refiner"),
        ("double_blocks.0.img_attn.proj.weight", "Flux"),
        ("some.other.weight", ""),
    ],
)
def test_files_of_other_models(key: str, seems: str, tmp_path: Path) -> None:
    content = {key: torch.zeros(3), **(tensors("vae") if seems and "double" not in key else {})}
    found = report(tmp_path, content)
    assert (found.role, found.foreign) == (Role.UNKNOWN, seems)
    (error,) = found.errors()
    assert error.code == "weights-role"
    assert seems in str(error)


def test_an_sdxl_that_predicts_v_is_refused(tmp_path: Path) -> None:
    found = report(tmp_path, {**SDXL, "v_pred": torch.zeros(0)})
    assert "predicts v" in found.title
    assert codes(found) == ["weights-unexpected"]


@pytest.mark.parametrize(
    ("content", "option", "role", "says"),
    [
        (SUPIR, "--sdxl", Role.SDXL, "is given as --sdxl, but it is SUPIR (v0Q or v0F)"),
        (SDXL, "--supir", Role.SUPIR, "is given as --supir, but it is SDXL base or fine-tune"),
        (tensors("vae"), "--sdxl", Role.SDXL, "but it is VAE"),
    ],
)
def test_a_file_of_another_role(content: dict[str, Tensor], option: str, role: Role, says: str, tmp_path: Path) -> None:
    found = report(tmp_path, content)
    with raises("weights-role", says, next(iter(sorted(content)))[:20]) as caught:
        require(found, option, role)
    assert caught.value.hint


# The published model's own names and shapes, in sparse files: nothing is written or read but the headers.


def sparse(path: Path, keys: dict[str, tuple[int, ...]]) -> None:
    """A float16 .safetensors file of real size without content."""
    header, end = {}, 0
    for key, shape in keys.items():
        start, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    published = {key: tuple(shape) for key, shape in json.loads(gzip.decompress(MANIFEST.read_bytes())).items()}
    sdxl = {key: shape for key, shape in published.items() if part_of(key) in SDXL_PARTS}
    extra = {UNUSED_KEYS[0]: (1, 77), UNUSED_KEYS[1]: (), UNUSED_KEYS[2]: (1000,)}
    sparse(folder / "sd_xl_base.safetensors", sdxl | extra)
    sparse(folder / "SUPIR-v0Q.safetensors", {k: s for k, s in published.items() if part_of(k) in SUPIR_PARTS})
    return folder


def test_published_files_at_full_size(full: Path) -> None:
    sdxl = judge(open_source(full / "sd_xl_base.safetensors", FULL), FULL)
    supir = judge(open_source(full / "SUPIR-v0Q.safetensors", FULL), FULL)
    assert (sdxl.role, supir.title) == (Role.SDXL, "SUPIR v0Q, by its name")
    assert sdxl.errors() == supir.errors() == []
    assert sdxl.parts == {"unet": (1680, 1680), "vae": (248, 248), "clip_l": (196, 196), "open_clip": (389, 389)}
    assert supir.parts == {"control": (810, 810), "connectors": (118, 118), "denoise_encoder": (106, 106)}
    assert (full / "sd_xl_base.safetensors").stat().st_size / 1e9 == pytest.approx(6.938, abs=0.001)
    assert (full / "SUPIR-v0Q.safetensors").stat().st_size / 1e9 == pytest.approx(2.665, abs=0.001)
    check_model(str(full))


def test_every_published_name_has_a_part() -> None:
    assert all(part_of(key) == part for part, shapes in wanted(FULL).items() for key in shapes)


def test_a_truncated_file_at_full_size(full: Path, tmp_path: Path) -> None:
    keys = dict(wanted(FULL)["control"])
    sparse(tmp_path / "half.safetensors", keys)
    os.truncate(tmp_path / "half.safetensors", (tmp_path / "half.safetensors").stat().st_size // 2)
    with raises("weights-damaged", "half.safetensors"):
        open_source(tmp_path / "half.safetensors", FULL)
