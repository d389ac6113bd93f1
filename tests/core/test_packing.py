from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from supir_core import models
from supir_core.errors import InputError, StorageError, WeightsError
from supir_core.packing import pack, plan_packing
from supir_core.parts import PREFIXES, VAE_PARTS, wanted
from supir_core.precision import PRECISIONS
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restorer
from supir_core.weights import check_model, load_networks
from tests.core.tiny_model import SDXL, SUPIR, TINY, put, raises

TO_Q = PREFIXES["unet"] + "input_blocks.3.1.transformer_blocks.0.attn1.to_q.weight"
LORA = {
    "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q.lora_down.weight": torch.full((2, 64), 0.5),
    "lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q.lora_up.weight": torch.full((64, 2), 0.25),
}
SPECIAL = {"nan": float("nan"), "infinity": float("inf")}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory as users have it, and a LoRA elsewhere."""
    folder = tmp_path_factory.mktemp("raw")
    put(folder / "loras", {"style.safetensors": LORA})
    return put(folder, {"sdxl.safetensors": SDXL, "SUPIR-v0Q.safetensors": SUPIR})


def packed(raw: Path, out: Path, dtype: str = "fp32", **options: Any) -> dict[str, Any]:
    """Pack the model directory; options as for `plan_packing`."""
    files = {"sdxl": raw / "sdxl.safetensors", "supir": raw / "SUPIR-v0Q.safetensors", "loras": []}
    return pack(plan_packing(**{**files, "dtype": dtype, **options}), out)


def weights_of(model: Path) -> dict[str, Tensor]:
    networks = load_networks(str(model), torch.device("cpu"), PRECISIONS["float32"])
    return {
        PREFIXES[name] + key: tensor
        for name, module in networks.components().items()
        for key, tensor in module.state_dict().items()
    }


def test_a_packed_model_holds_the_weights_of_its_sources(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "out")
    check_model(str(tmp_path / "out"))
    loaded = weights_of(tmp_path / "out")
    assert loaded.keys() == (SDXL | SUPIR).keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in (SDXL | SUPIR).items())


def test_a_packed_model_restores_the_same_picture(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "out")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    preset = load_preset("demo", ["sampling.num_steps=2", "size.min_size_px=64", "size.upscale=1"])
    photo = Photo("p", pixels, preset, "a photo")
    pictures = [
        Restorer.load(str(model), device="cpu", dtype="float32").restore([photo])[0].image
        for model in (raw, tmp_path / "out")
    ]
    assert pictures[0].shape[-2:] == (64, 64)
    assert torch.equal(*pictures)


@pytest.mark.parametrize(
    ("dtype", "stored", "vae"), [("bf16", "BF16", "BF16"), ("fp16", "F16", "BF16"), ("fp32", "F32", "F32")]
)
def test_number_types(dtype: str, stored: str, vae: str, raw: Path, tmp_path: Path) -> None:
    config = packed(raw, tmp_path / "out", dtype)
    assert config["packed"]["vae_dtype"] == vae.lower().replace("f", "fp").replace("bfp", "bf")
    for part, shapes in wanted(TINY).items():
        with safe_open(tmp_path / "out" / f"{part}.safetensors", framework="pt") as file:
            assert set(file.keys()) == set(shapes)
            assert {file.get_slice(key).get_dtype() for key in shapes} == {vae if part in VAE_PARTS else stored}


def test_files_are_plain_safetensors_whose_data_lie_aligned(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "out")
    for part, shapes in wanted(TINY).items():
        file = tmp_path / "out" / f"{part}.safetensors"
        content = load_file(file)
        assert {key: tuple(t.shape) for key, t in content.items()} == dict(shapes)
        header = int.from_bytes(file.read_bytes()[:8], "little")
        assert (8 + header) % 64 == 0
        assert file.stat().st_size == 8 + header + 4 * sum(math.prod(shape) for shape in shapes.values())


def test_loras_are_merged_with_their_scales(raw: Path, tmp_path: Path) -> None:
    style = raw / "loras" / "style.safetensors"
    config = packed(raw, tmp_path / "out", loras=[(style, 0.5), (style, 2.0)])
    loaded = weights_of(tmp_path / "out")
    torch.testing.assert_close(loaded[TO_Q], SDXL[TO_Q] + 2.5 * 0.25 * 0.5 * 2)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in (SDXL | SUPIR).items() if key != TO_Q)
    assert [(lora["name"], lora["scale"]) for lora in config["packed"]["loras"]] == [
        ("style.safetensors", 0.5),
        ("style.safetensors", 2.0),
    ]


def test_the_origin_is_recorded(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "model.json").read_text())["packed"]
    assert record["sources"]["sdxl"]["name"] == "sdxl.safetensors"
    assert record["sources"]["supir"]["role"] == "SUPIR v0Q, by its name"
    for role in ("sdxl", "supir"):
        ((name, digest),) = record["sources"][role]["files"].items()
        assert digest == hashlib.sha256((raw / name).read_bytes()).hexdigest()
    for name, stored in record["files"].items():
        content = (tmp_path / "out" / name).read_bytes()
        assert stored == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    with safe_open(tmp_path / "out" / "control.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["supir.part"] == "control"
    assert json.loads(metadata["supir.sources"]) == list(record["sources"]["supir"]["files"].values())


def test_the_same_sources_give_the_same_bytes_whatever_their_names(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "a", "bf16")
    renamed = put(tmp_path / "renamed", {})
    shutil.copy(raw / "sdxl.safetensors", renamed / "other.safetensors")
    packed(raw, tmp_path / "b", "bf16", sdxl=renamed / "other.safetensors")
    for file in (tmp_path / "a").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    digest = models.model_digest(str(tmp_path / "a"))
    assert digest == models.model_digest(str(tmp_path / "b"))
    packed(raw, tmp_path / "c", "fp32")
    assert models.model_digest(str(tmp_path / "c")) != digest


def test_pickles_and_folders_are_packed_too(raw: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": SUPIR}, tmp_path / "SUPIR-v0F.ckpt")
    config = packed(raw, tmp_path / "out", supir=tmp_path / "SUPIR-v0F.ckpt")
    assert config["packed"]["sources"]["supir"]["role"] == "SUPIR v0F, by its name"
    packed(raw, tmp_path / "plain")
    assert (tmp_path / "out" / "unet.safetensors").read_bytes() == (
        tmp_path / "plain" / "unet.safetensors"
    ).read_bytes()


def test_one_file_that_holds_both(tmp_path: Path) -> None:
    put(tmp_path, {"all.safetensors": SDXL | SUPIR})
    both = tmp_path / "all.safetensors"
    pack(plan_packing(both, both, [], "fp32"), tmp_path / "out")
    loaded = weights_of(tmp_path / "out")
    assert all(torch.equal(loaded[key], tensor) for key, tensor in (SDXL | SUPIR).items())


def test_progress_counts_every_byte_once(raw: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    plan = plan_packing(raw / "sdxl.safetensors", raw / "SUPIR-v0Q.safetensors", [], "bf16")
    pack(plan, tmp_path / "out", counted.append)
    assert sum(counted) == plan.total_bytes


# What is refused.


def test_swapped_files(raw: Path, tmp_path: Path) -> None:
    sdxl, supir = raw / "sdxl.safetensors", raw / "SUPIR-v0Q.safetensors"
    with raises("weights-role", "is given as --sdxl, but it is SUPIR") as caught:
        plan_packing(supir, sdxl, [], "bf16")
    assert caught.value.hint == "give it as --supir"
    with raises("weights-role", "is given as --supir, but it is SDXL"):
        plan_packing(sdxl, Path(shutil.copy(sdxl, tmp_path)), [], "bf16")


@pytest.mark.parametrize("content", [SDXL, SUPIR])
def test_one_file_given_twice_has_to_hold_both(content: dict[str, Tensor], tmp_path: Path) -> None:
    put(tmp_path, {"file.safetensors": content})
    with raises("weights-role", "--sdxl and --supir"):
        plan_packing(tmp_path / "file.safetensors", tmp_path / "file.safetensors", [], "bf16")


def test_a_weights_file_as_lora(raw: Path) -> None:
    with raises("weights-lora", "SUPIR-v0Q.safetensors"):
        plan_packing(
            raw / "sdxl.safetensors", raw / "SUPIR-v0Q.safetensors", [(raw / "SUPIR-v0Q.safetensors", 1.0)], "bf16"
        )


def test_a_lora_as_sdxl(raw: Path) -> None:
    with raises("weights-role", "but it is LoRA") as caught:
        plan_packing(raw / "loras" / "style.safetensors", raw / "SUPIR-v0Q.safetensors", [], "bf16")
    assert "--lora" in caught.value.hint


@pytest.mark.parametrize("what", SPECIAL)
def test_nan_leaves_nothing_behind(what: str, raw: Path, tmp_path: Path) -> None:
    spoiled = SDXL[TO_Q].clone()
    spoiled[3, 5] = SPECIAL[what]
    put(tmp_path, {"bad.safetensors": {**SDXL, TO_Q: spoiled}})
    with raises("weights-nan", TO_Q, "bad.safetensors"):
        packed(raw, tmp_path / "out", sdxl=tmp_path / "bad.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.safetensors", "model.json"]


def test_weights_that_do_not_fit_float16(raw: Path, tmp_path: Path) -> None:
    put(tmp_path, {"big.safetensors": {**SDXL, TO_Q: SDXL[TO_Q] * 1e6}})
    with raises("weights-overflow", TO_Q, "does not fit into float16"):
        packed(raw, tmp_path / "out", "fp16", sdxl=tmp_path / "big.safetensors")
    packed(raw, tmp_path / "out", "bf16", sdxl=tmp_path / "big.safetensors")


def test_nan_in_raw_files_is_found_when_they_are_loaded(raw: Path, tmp_path: Path) -> None:
    put(tmp_path, {"sdxl.safetensors": {**SDXL, TO_Q: SDXL[TO_Q] / 0}, "supir.safetensors": SUPIR})
    check_model(str(tmp_path))
    with raises("weights-nan", TO_Q, "sdxl.safetensors"):
        weights_of(tmp_path)


def test_an_output_that_is_not_empty(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    packed(raw, tmp_path / "out")
    with pytest.raises(InputError, match="not empty") as caught:
        packed(raw, tmp_path / "out")
    assert caught.value.code == "output-exists"
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        packed(raw, tmp_path / "file")


def test_an_output_that_cannot_be_written(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        packed(raw, tmp_path / "file" / "out")


def test_an_interruption_leaves_nothing_behind(raw: Path, tmp_path: Path) -> None:
    plan = plan_packing(raw / "sdxl.safetensors", raw / "SUPIR-v0Q.safetensors", [], "bf16")
    done = 0

    def interrupt(count: int) -> None:
        nonlocal done
        done += count
        if done > 0.8 * plan.total_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(plan, tmp_path / "out", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_both_as_one_of_them(raw: Path, tmp_path: Path) -> None:
    put(tmp_path, {"all.safetensors": SDXL | SUPIR})
    with raises("weights-role", "SDXL and SUPIR in one file") as caught:
        packed(raw, tmp_path / "out", supir=tmp_path / "all.safetensors")
    assert "as --sdxl and as --supir" in caught.value.hint


# A packed directory afterwards.


def cut(out: Path) -> None:
    with (out / "vae.safetensors").open("r+b") as file:
        file.truncate((out / "vae.safetensors").stat().st_size // 2)


def lose(out: Path) -> None:
    (out / "control.safetensors").unlink()


def add(out: Path) -> None:
    save_file(LORA, out / "style.safetensors")


def spoil(out: Path) -> None:
    (out / "model.json").write_text('{"dims": {}, "packed": {"files": {"unet.safetensors": {}}}}')


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        (cut, "weights-changed", "vae.safetensors has"),
        (lose, "weights-not-found", "control.safetensors is missing"),
        (add, "weights-unexpected", "style.safetensors is not part of the packed model"),
        (spoil, "weights-config", "model.json does not parse"),
    ],
)
@pytest.mark.parametrize("use", [models.model_digest, check_model])
def test_a_packed_directory_that_was_changed(
    damage: Callable[[Path], None], code: str, says: str, use: Callable[[str], object], raw: Path, tmp_path: Path
) -> None:
    packed(raw, tmp_path / "out")
    damage(tmp_path / "out")
    with raises(code, says):
        use(str(tmp_path / "out"))


def test_the_digest_is_known_without_reading(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "out")
    digest = models.model_digest(str(tmp_path / "out"))
    file = tmp_path / "out" / "unet.safetensors"
    size = file.stat().st_size
    os.truncate(file, 0)
    os.truncate(file, size)  # nothing but zeros, which reading would notice
    assert models.model_digest(str(tmp_path / "out")) == digest


def test_the_digest_follows_dimensions_and_weights(raw: Path, tmp_path: Path) -> None:
    packed(raw, tmp_path / "a")
    style = raw / "loras" / "style.safetensors"
    packed(raw, tmp_path / "b", loras=[(style, 1.0)])
    assert models.model_digest(str(tmp_path / "a")) != models.model_digest(str(tmp_path / "b"))


def test_raw_directories_take_pickles(raw: Path, tmp_path: Path) -> None:
    put(tmp_path, {"sdxl.safetensors": {key: tensor.half() for key, tensor in SDXL.items()}})
    torch.save({"state_dict": SUPIR, "epoch": 1}, tmp_path / "SUPIR-v0Q.ckpt")
    loaded = weights_of(tmp_path)
    assert all(torch.equal(loaded[key], tensor) for key, tensor in SUPIR.items())
    assert all(torch.equal(loaded[key], tensor.half().float()) for key, tensor in SDXL.items())


def test_a_lora_in_a_raw_directory_is_refused_with_advice(raw: Path, tmp_path: Path) -> None:
    put(tmp_path, {"sdxl.safetensors": SDXL, "supir.safetensors": SUPIR, "style.safetensors": LORA})
    with pytest.raises(WeightsError) as caught:
        check_model(str(tmp_path))
    assert caught.value.code == "weights-unexpected"
    assert "supir weights pack --lora" in caught.value.hint
