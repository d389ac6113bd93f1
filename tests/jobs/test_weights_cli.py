from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from jobs.cli import app
from supir_core.parts import PREFIXES
from tests.core.tiny_model import SDXL, SUPIR, put

REPOSITORY = Path(__file__).parents[2]
KEY = "model.control_model.input_hint_block.0.weight"
LORA = {
    "lora_unet_input_blocks_3_1_proj_in.lora_down.weight": torch.ones(2, 64),
    "lora_unet_input_blocks_3_1_proj_in.lora_up.weight": torch.ones(64, 2),
}
IMPORTED = (
    "import sys\nfrom jobs.cli import main\ntry:\n    main()\nfinally:\n    sys.stderr.write(' '.join(sys.modules))"
)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    put(folder / "loras", {"style.safetensors": LORA})
    return put(folder, {"sdxl.safetensors": SDXL, "SUPIR-v0Q.safetensors": SUPIR})


@pytest.fixture
def files(whole: Path, tmp_path: Path) -> Path:
    """The same files, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "weights"))


def supir(*words: object) -> Result:
    return CliRunner().invoke(app, ["weights", *map(str, words)])


def errors(result: Result) -> list[str]:
    """The codes on stderr, each with a hint; nothing else may be wrong."""
    assert "Traceback" not in result.output
    lines = result.stderr.splitlines()
    codes = [line.partition("]")[0].removeprefix("error[") for line in lines if line.startswith("error[")]
    assert sum(line.startswith("hint: ") for line in lines) == len(codes)
    assert result.exit_code == (2 if codes else 0), result.output
    return codes


def test_good_files(whole: Path) -> None:
    result = supir(
        "check", whole / "sdxl.safetensors", whole / "SUPIR-v0Q.safetensors", whole / "loras/style.safetensors"
    )
    assert errors(result) == []
    assert "sdxl.safetensors: SDXL base or fine-tune  ok\n" in result.stdout
    assert "SUPIR-v0Q.safetensors: SUPIR v0Q, by its name  ok\n" in result.stdout
    assert "style.safetensors: LoRA  ok\n" in result.stdout
    for line in ("missing     none", "unexpected  none", "file        0.0", "safetensors, published names"):
        assert line in result.stdout


def test_json(whole: Path) -> None:
    result = supir("check", whole / "SUPIR-v0Q.safetensors", "--json")
    facts = json.loads(result.stdout)
    (file,) = facts["files"]
    assert facts["ok"] is True
    assert (file["role"], file["missing"], file["dtypes"]) == ("SUPIR v0Q, by its name", [], {"float32": len(SUPIR)})
    assert len(file["sha256"]) == 64
    assert set(file["components"]) == {"control", "connectors", "denoise_encoder"}


def test_a_truncated_file(files: Path) -> None:
    file = files / "SUPIR-v0Q.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = supir("check", file, files / "sdxl.safetensors")
    assert errors(result) == ["weights-damaged"]
    assert f"{file}: not readable" in result.stdout
    assert "sdxl.safetensors: SDXL base or fine-tune  ok" in result.stdout  # one bad file does not hide the others


def test_a_renamed_file(files: Path) -> None:
    renamed = (files / "sdxl.safetensors").rename(files / "SUPIR-v0F.ckpt")
    result = supir("check", renamed)
    assert errors(result) == []
    assert "SUPIR-v0F.ckpt: SDXL base or fine-tune  ok" in result.stdout
    assert "safetensors, published names" in result.stdout
    assert "its name says SUPIR, but its tensors are another's" in result.stdout
    swapped = (files / "SUPIR-v0Q.safetensors").rename(files / "sd_xl_base_1.0.safetensors")
    assert "its name says SDXL base or fine-tune, but" in supir("check", swapped).stdout


def test_everything_wrong_with_a_file_is_said(files: Path) -> None:
    content = {**SUPIR, "extra.weight": torch.zeros(1), KEY: torch.zeros(1)}
    content.pop(next(key for key in SUPIR if key != KEY))
    put(files, {"bad.safetensors": content})
    assert errors(supir("check", files / "bad.safetensors")) == [
        "weights-missing",
        "weights-shape",
        "weights-unexpected",
    ]


def test_nan_is_found_unless_only_headers_are_read(files: Path) -> None:
    put(files, {"bad.safetensors": {**SUPIR, KEY: SUPIR[KEY] / 0}})
    assert errors(supir("check", files / "bad.safetensors")) == ["weights-nan"]
    result = supir("check", files / "bad.safetensors", "--no-sha256")
    assert errors(result) == []
    assert "ok so far (values not read)" in result.stdout
    assert "sha256      not computed" in result.stdout


def test_weights_in_eight_bits_are_refused_without_being_read(files: Path) -> None:
    put(files, {"small.safetensors": {key: value.to(torch.float8_e4m3fn) for key, value in SUPIR.items()}})
    assert errors(supir("check", files / "small.safetensors")) == ["weights-dtype"]


def test_a_pickle_with_code_and_other_files(files: Path) -> None:
    torch.save({"state_dict": SUPIR, "x": Evil()}, files / "evil.ckpt")
    (files / "photo.ckpt").write_bytes(b"\xff\xd8\xff\xe0 jpeg")
    put(files / "other", {"other.safetensors": {"cond_stage_model.x": torch.zeros(1)}})
    result = supir(
        "check", files / "evil.ckpt", files / "photo.ckpt", files / "other/other.safetensors", files / "none"
    )
    assert errors(result) == ["weights-pickle", "weights-damaged", "weights-role", "weights-not-found"]
    assert "Stable Diffusion 1 or 2" in result.stderr


def test_a_model_directory(files: Path) -> None:
    result = supir("check", files)
    assert errors(result) == []
    assert f"{files}: model directory  ok" in result.stdout
    (files / "SUPIR-v0Q.safetensors").unlink()
    assert errors(supir("check", files)) == ["weights-missing"]
    (files / "sdxl.safetensors").unlink()
    assert errors(supir("check", files)) == ["weights-not-found"]


def pack(files: Path, out: Path, *options: object) -> Result:
    return supir(
        "pack", "--sdxl", files / "sdxl.safetensors", "--supir", files / "SUPIR-v0Q.safetensors", *options, out
    )


def test_pack_and_check(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    result = pack(whole, out, "--lora", f"{whole / 'loras/style.safetensors'}:0.5", "--dtype", "fp16")
    assert errors(result) == []
    assert "LoRA        style.safetensors x 0.5" in result.stdout
    assert f"use it with: --model {out}" in result.stdout
    assert "the VAE is stored as bf16" in result.stderr
    result = supir("check", out)
    assert errors(result) == []
    assert f"{out}: packed model  ok\n  digest" in result.stdout
    assert result.stdout.count("part of a packed model  ok") == 7


def test_a_packed_file_with_another_byte(whole: Path, tmp_path: Path) -> None:
    assert pack(whole, tmp_path / "packed").exit_code == 0
    file = tmp_path / "packed" / "unet.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    result = supir("check", tmp_path / "packed")
    assert errors(result) == ["weights-changed"]
    assert "unet.safetensors is not what was packed" in result.stderr


def test_pack_as_json(whole: Path, tmp_path: Path) -> None:
    result = pack(whole, tmp_path / "packed", "--json")
    facts = json.loads(result.stdout)
    assert (facts["dtype"], facts["vae_dtype"], len(facts["digest"]), len(facts["files"])) == ("bf16", "bf16", 12, 7)


def test_pack_with_files_swapped(whole: Path, tmp_path: Path) -> None:
    result = supir(
        "pack", "--sdxl", whole / "SUPIR-v0Q.safetensors", "--supir", whole / "sdxl.safetensors", tmp_path / "out"
    )
    assert errors(result) == ["weights-role"]
    assert "hint: give it as --supir" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "code"),
    [("{}/none.safetensors", "weights-not-found"), ("{}/sdxl.safetensors:0.5", "weights-lora"), ("{}/x:nan", "input")],
)
def test_pack_with_a_lora_that_is_none(option: str, code: str, whole: Path, tmp_path: Path) -> None:
    assert errors(pack(whole, tmp_path / "out", "--lora", option.format(whole))) == [code]


def test_pack_over_something(whole: Path) -> None:
    assert errors(pack(whole, whole / "loras")) == ["output-exists"]


def test_a_lora_whose_name_has_a_colon(whole: Path, tmp_path: Path) -> None:
    shutil.copy(whole / "loras/style.safetensors", tmp_path / "a:b.safetensors")
    result = pack(whole, tmp_path / "out", "--lora", tmp_path / "a:b.safetensors")
    assert errors(result) == []
    assert "a:b.safetensors x 1" in result.stdout


@pytest.mark.parametrize("command", [[], ["check"], ["pack"]])
def test_help_teaches_and_imports_no_torch(command: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-c", IMPORTED, "weights", *command, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Example: supir weights" in process.stdout or not command
    assert not {"torch", "safetensors", "ray", "numpy"} & set(process.stderr.split())


def test_the_text_encoders_projection_is_named_in_full(files: Path) -> None:
    content = dict(SDXL)
    content.pop(PREFIXES["open_clip"] + "text_projection")
    put(files, {"bad.safetensors": content})
    result = supir("check", files / "bad.safetensors")
    assert errors(result) == ["weights-missing"]
    assert PREFIXES["open_clip"] + "text_projection" in result.stderr
