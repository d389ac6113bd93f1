from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from supir_core.checkpoint import Entry, is_finite, open_checkpoint, sha256_of
from tests.core.tiny_model import raises

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.tensor([1.0, -2.0])}


def as_safetensors(path: Path, dtype: torch.dtype = torch.float32) -> None:
    save_file({key: tensor.to(dtype) for key, tensor in TENSORS.items()}, path, metadata={"note": "x"})


def as_pickle(path: Path, dtype: torch.dtype = torch.float32, **options: Any) -> None:
    torch.save({key: tensor.to(dtype) for key, tensor in TENSORS.items()}, path, **options)


def as_nested_pickle(path: Path, dtype: torch.dtype = torch.float32) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in TENSORS.items()}
    torch.save({"epoch": 3, "state_dict": {**tensors, "steps": 7}, "optimizer_states": [torch.zeros(9)]}, path)


def as_old_pickle(path: Path, dtype: torch.dtype = torch.float32) -> None:
    as_pickle(path, dtype, _use_new_zipfile_serialization=False)


WRITERS: list[Callable[..., None]] = [as_safetensors, as_pickle, as_nested_pickle, as_old_pickle]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_of_file_reads_the_same(write: Callable[..., None], dtype: torch.dtype, tmp_path: Path) -> None:
    write(tmp_path / "file", dtype)
    opened = open_checkpoint(tmp_path / "file")
    name = str(dtype).removeprefix("torch.")
    assert opened.entries == {"a.weight": Entry((2, 3), name), "b.bias": Entry((2,), name)}
    for key, tensor in TENSORS.items():
        assert torch.equal(opened.read(key), tensor.to(dtype))


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors", "model"])
@pytest.mark.parametrize("write", WRITERS)
def test_the_content_decides_not_the_name(write: Callable[..., None], name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert open_checkpoint(tmp_path / name).kind == ("safetensors" if write is as_safetensors else "pickle")


def test_metadata(tmp_path: Path) -> None:
    as_safetensors(tmp_path / "file")
    assert open_checkpoint(tmp_path / "file").metadata == {"note": "x"}


@pytest.mark.parametrize("left", [0, 1, 4, 10, 100, 0.5, 0.999])
@pytest.mark.parametrize("write", WRITERS)
def test_a_truncated_file(write: Callable[..., None], left: float, tmp_path: Path) -> None:
    write(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    with raises("weights-damaged", str(tmp_path / "file")):
        open_checkpoint(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6938040682\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xff\xd8\xff\xe0 a photo", "it starts with"),
        (b"PK\x03\x04 no zip", ""),
        (b"\x80\x02 no pickle", ""),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", ""),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{'no': json}    ", ""),
    ],
)
def test_what_is_no_file_of_weights(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with raises("weights-damaged", "model.safetensors", says):
        open_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}, 5])
def test_a_pickle_without_tensors(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.ckpt")
    with raises("weights-damaged", "holds no tensors"):
        open_checkpoint(tmp_path / "model.ckpt")


def test_half_a_safetensors_file_says_that_its_size_is_wrong(tmp_path: Path) -> None:
    as_safetensors(tmp_path / "file")
    os.truncate(tmp_path / "file", (tmp_path / "file").stat().st_size - 4)
    with raises("weights-damaged", "bytes are not those that its header names"):
        open_checkpoint(tmp_path / "file")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with raises("weights-not-found", "none.ckpt"):
        open_checkpoint(tmp_path / "none.ckpt")


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("kind", ["zip", "old", "plain", "plain 4"])
def test_a_pickle_never_runs_code(kind: str, tmp_path: Path) -> None:
    content = {"state_dict": dict(TENSORS), "callbacks": Evil(tmp_path / "made")}
    file = tmp_path / "model.ckpt"
    plain = kind.startswith("plain")
    if plain:
        file.write_bytes(pickle.dumps(content["callbacks"], protocol=4 if kind.endswith("4") else 2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
    expected = raises("weights-damaged") if kind == "plain 4" else raises("weights-pickle", "mkdir", "can run code")
    with expected as caught:
        open_checkpoint(file)
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "made").exists()
    pickle.loads(file.read_bytes()) if plain else torch.load(file, weights_only=False)
    assert (tmp_path / "made").exists()  # so the file is as bad as it is meant to be


def test_large_pickles_are_mapped_not_read(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1 << 20)}, tmp_path / "model.ckpt")
    opened = open_checkpoint(tmp_path / "model.ckpt")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert str(tmp_path / "model.ckpt") in maps.read_text()
    assert float(opened.read("a").sum()) == 1 << 20


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    counted: list[int] = []
    assert sha256_of(tmp_path / "file", counted.append).startswith("ba7816bf8f01cfea414140de5dae2223")
    assert sum(counted) == 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_is_finite(value: float, dtype: torch.dtype) -> None:
    tensor = torch.ones(3, 5, dtype=dtype)
    assert is_finite(tensor)
    assert is_finite(tensor[:0])
    tensor[1, 3] = value
    assert not is_finite(tensor)
