"""Files of the real sizes through the command line: what they are, packing them, loading what was packed.

    python -m pytest -m slow -s tests/core/test_full_size_files.py

Needs 20 GB of disk and a few minutes; prints how long each step takes and how much memory.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from supir_core.networks.dims import FULL
from supir_core.parts import PREFIXES, SDXL_PARTS, SUPIR_PARTS, Shape, wanted
from supir_core.restorer import Restorer

REPOSITORY = Path(__file__).parents[2]
NEEDED_BYTES = 25 * 10**9
COMMAND = "from jobs.cli import main; main()"
EXTRA = {  # what a real SDXL base holds besides
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
    "conditioner.embedders.1.model.logit_scale": torch.tensor(4.6),
    "denoiser.sigmas": torch.linspace(0.03, 14.6, 1000),
}
NAMES = {torch.float16: "F16", torch.float32: "F32", torch.int64: "I64"}
STARTS = 4096


class Files(NamedTuple):
    sdxl: Path
    supir: Path


class Ran(NamedTuple):
    """What a command said."""

    facts: Any
    stderr: str


@cache
def small_numbers() -> np.ndarray:
    """Float16 numbers for the largest tensor."""
    largest = max(math.prod(shape) for shapes in wanted(FULL).values() for shape in shapes.values())
    return (np.random.default_rng(0).standard_normal(largest + STARTS, dtype=np.float32) / 50).astype(np.float16)


def numbers(key: str, shape: Shape) -> Tensor:
    """The tensor of a name: some of the same numbers in the same memory, as all of them would take ten gigabytes."""
    start = zlib.crc32(key.encode()) % STARTS
    return torch.frombuffer(small_numbers(), dtype=torch.float16, count=math.prod(shape), offset=2 * start).view(shape)


def shapes_of(*parts: str) -> dict[str, Shape]:
    return {key: shape for part in parts for key, shape in wanted(FULL)[part].items()}


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """As `safetensors.torch.save_file` would, without a copy of everything."""
    header: dict[str, Any] = {}
    end = 0
    for key, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            stream.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - start:.1f} s")


def supir(*words: object) -> Ran:
    """Run `supir weights ... --json`; prints how long it took and how much memory."""
    start = time.monotonic()
    peak = {"RssAnon": 0.0, "VmHWM": 0.0}
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "weights", *map(str, words), "--json"],
            cwd=REPOSITORY,
            stdout=stdout,
            stderr=stderr,
        )
        while process.poll() is None:
            peak = {field: max(value, memory_gb(process.pid).get(field, 0.0)) for field, value in peak.items()}
            time.sleep(0.05)
        stdout.seek(0)
        stderr.seek(0)
        said, errors = stdout.read(), stderr.read()
    own, resident = peak.values()
    print(f"{words[0]}: {time.monotonic() - start:.1f} s, {own:.2f} GB of its own, {resident:.2f} GB with mapped files")
    assert process.returncode == 0, errors
    return Ran(json.loads(said), errors)


def memory_gb(pid: int) -> dict[str, float]:
    """The lines of /proc/PID/status that are amounts of memory; none where there is no such file."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e9 for line in lines if line.endswith(" kB")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that is gone afterwards; pytest keeps its own."""
    base = tmp_path_factory.mktemp("full")
    if shutil.disk_usage(base).free < NEEDED_BYTES:
        pytest.skip(f"needs {NEEDED_BYTES / 1e9:.0f} GB of disk below {base}")
    with tempfile.TemporaryDirectory(dir=base) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def files(folder: Path) -> Files:
    paths = Files(folder / "sd_xl_base_1.0_0.9vae.safetensors", folder / "SUPIR-v0Q.ckpt")
    with timed("writing the files"):
        sdxl = {key: numbers(key, shape) for key, shape in shapes_of(*SDXL_PARTS).items()}
        write_safetensors(paths.sdxl, sdxl | EXTRA)
        state = {key: numbers(key, shape) for key, shape in shapes_of(*SUPIR_PARTS).items()}
        torch.save({"state_dict": state, "global_step": 1}, paths.supir)
    return paths


@pytest.mark.slow
def test_full_size_files_are_known_packed_and_loaded(files: Files, folder: Path) -> None:
    found = supir("check", *files).facts
    assert found["ok"] is True
    for file, path, role, parts in zip(
        found["files"],
        files,
        ("SDXL base or fine-tune", "SUPIR v0Q, by its name"),
        (SDXL_PARTS, SUPIR_PARTS),
        strict=True,
    ):
        assert (file["file"], file["role"], file["layout"]) == (str(path), role, "published")
        assert file["components"] == {part: {"found": n, "needed": n} for part in parts for n in [len(shapes_of(part))]}
        assert (file["missing"], file["unexpected"], file["wrong_shape"]) == ([], [], [])
        assert file["dtypes"] == {"float16": len(shapes_of(*parts))}
        print(f"  {path.name}: {file['bytes'] / 1e9:.3f} GB, {file['tensors']} tensors, unused {file['unused']}")
    assert sorted(found["files"][0]["unused"]) == sorted(EXTRA)

    model = folder / "packed"
    packed = supir("pack", "--sdxl", files.sdxl, "--supir", files.supir, "--dtype", "bf16", model)
    print(packed.stderr.strip() or "  nothing on stderr")
    assert (packed.facts["dtype"], packed.facts["vae_dtype"]) == ("bf16", "bf16")
    assert packed.facts["files"].keys() == {f"{part}.safetensors" for part in (*SDXL_PARTS, *SUPIR_PARTS)}
    print("  " + ", ".join(f"{name} {file['bytes'] / 1e9:.3f}" for name, file in packed.facts["files"].items()))

    before = memory_gb(os.getpid()).get("RssAnon", 0.0)
    with timed("loading the packed model"):
        networks = Restorer.load(str(model), device="cpu", dtype="bfloat16").networks
    own = memory_gb(os.getpid()).get("RssAnon", 0.0) - before
    print(f"  {own:.2f} GB of memory of its own")
    assert own < 1  # the rest is mapped
    assert networks.dims == FULL
    loaded = {
        PREFIXES[name] + key: tensor
        for name, module in networks.components().items()
        for key, tensor in module.state_dict().items()
    }
    expected = shapes_of(*SDXL_PARTS, *SUPIR_PARTS)
    assert {key: tuple(tensor.shape) for key, tensor in loaded.items()} == expected
    assert {tensor.dtype for tensor in loaded.values()} == {torch.bfloat16}
    for key in list(expected)[::100]:
        assert torch.equal(loaded[key], numbers(key, expected[key]).bfloat16())
