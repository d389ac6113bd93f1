"""A packed model: every part in a file of its own, in one number type, with LoRAs merged and its origin recorded.

Tensors are read, merged, converted, checked, hashed and written one by one, so memory holds one of them. The directory
appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supir_core import __version__, models
from supir_core.checkpoint import is_finite, sha256_of
from supir_core.errors import InputError, StorageError, WeightsError
from supir_core.lora import Lora, merge, open_lora
from supir_core.networks.dims import ModelDims
from supir_core.parts import SDXL_PARTS, VAE_PARTS, Shape, wanted
from supir_core.published import Source, open_source
from supir_core.roles import PART_KEY, Report, Role, judge, require
from supir_core.weights import not_finite

OnBytes = Callable[[int], None]

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SAFETENSORS_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_ALIGNMENT = 64  # bytes; mapped tensors then lie as well as allocated ones


@dataclass(frozen=True)
class Packing:
    """What is to be packed: checked files, not yet read."""

    dims: ModelDims
    reports: Mapping[str, Report]  # by role: sdxl and supir
    loras: Sequence[Lora]
    dtype: str  # a name of DTYPES

    @property
    def sources(self) -> list[Source]:
        """SDXL's and SUPIR's, or the one that holds both."""
        return list({id(report.source): report.source for report in self.reports.values()}.values())

    @property
    def total_bytes(self) -> int:
        """To be read for hashes and written."""
        read = sum(f.path.stat().st_size for source in self.sources for f in source.files)
        return read + sum(lora.file.path.stat().st_size for lora in self.loras) + self.written_bytes

    @property
    def written_bytes(self) -> int:
        """Of tensors."""
        parts = wanted(self.dims)
        return sum(self.part_dtype(part).itemsize * prod(s) for part in parts for s in parts[part].values())

    def part_dtype(self, part: str) -> torch.dtype:
        """As asked for, but never float16 for the autoencoder, which overflows in it."""
        asked = DTYPES[self.dtype]
        return torch.bfloat16 if part in VAE_PARTS and asked == torch.float16 else asked


def plan_packing(sdxl: Path, supir: Path, loras: Sequence[tuple[Path, float]], dtype: str) -> Packing:
    """Open and check everything that is to be packed; reads headers only.

    Dimensions are those of a model.json beside the SDXL base, or SDXL's.

    Raises:
        WeightsError: a file is damaged, not whole, or not what it is given as.
    """
    dims = models.read_dims(str(sdxl if sdxl.is_dir() else sdxl.parent))
    if sdxl.resolve() == supir.resolve():
        both = judge(open_source(sdxl, dims), dims)
        require(both, "--sdxl and --supir", Role.BOTH)
        reports = {"sdxl": both, "supir": both}
    else:
        reports = {"sdxl": judge(open_source(sdxl, dims), dims), "supir": judge(open_source(supir, dims), dims)}
        require(reports["sdxl"], "--sdxl", Role.SDXL)
        require(reports["supir"], "--supir", Role.SUPIR)
    return Packing(dims, reports, [open_lora(path, scale, dims) for path, scale in loras], dtype)


def pack(packing: Packing, out: Path, on_bytes: OnBytes = lambda count: None) -> dict[str, Any]:
    """Write a packed model directory; `load_networks` and `model_digest` take it.

    Args:
        packing: as `plan_packing` gives it.
        out: the directory; must not exist, or be empty.
        on_bytes: called with numbers of bytes read or written, `packing.total_bytes` in all.

    Returns:
        What model.json holds.

    Raises:
        WeightsError: a tensor holds NaN or infinity (`weights-nan`), or does not fit the number type
            (`weights-overflow`).
        InputError: `out` is not empty (`output-exists`).
        StorageError: it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty", hint="choose a new directory", code="output-exists")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_space(out.parent, packing.written_bytes)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            config = _write_all(packing, work, on_bytes)
            work.chmod(0o755)
            work.replace(out)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error}", hint="is there space, may you write there?") from error
    return config


def changed(file: Path) -> WeightsError:
    """What to say of a packed model's file whose hash is not the recorded one."""
    return WeightsError(
        f"{file} is not what was packed: its sha256 differs", hint="pack the model again", code="weights-changed"
    )


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise StorageError(
            f"packing needs {needed / 1e9:.1f} GB in {directory}, {free / 1e9:.1f} GB are free", hint="make room"
        )


def _write_all(packing: Packing, work: Path, on_bytes: OnBytes) -> dict[str, Any]:
    hashes = {
        file.path: sha256_of(file.path, on_bytes)
        for files in (*(source.files for source in packing.sources), [lora.file for lora in packing.loras])
        for file in files
    }
    loras = [
        {"name": lora.file.path.name, "sha256": hashes[lora.file.path], "scale": lora.scale} for lora in packing.loras
    ]
    files = {}
    for part, shapes in wanted(packing.dims).items():
        role = "sdxl" if part in SDXL_PARTS else "supir"
        source = packing.reports[role].source
        metadata = {
            PART_KEY: part,
            "supir.dims": _json(packing.dims.to_dict()),
            # Hashes alone: a packed file's own hash must not depend on what its sources are called.
            "supir.sources": _json([hashes[file.path] for file in source.files]),
            "supir.loras": _json([[lora["sha256"], lora["scale"]] for lora in loras]),
        }
        dtype = packing.part_dtype(part)
        tensors = _converted(source, shapes, packing.loras, dtype)
        files[f"{part}.safetensors"] = _write(work / f"{part}.safetensors", shapes, dtype, metadata, tensors, on_bytes)
    config = {
        "dims": packing.dims.to_dict(),
        "packed": {
            "tool": f"supir {__version__}",
            "dtype": packing.dtype,
            "vae_dtype": {d: name for name, d in DTYPES.items()}[packing.part_dtype("vae")],
            "sources": {role: _origin(report, hashes) for role, report in packing.reports.items()},
            "loras": loras,
            "files": files,
        },
    }
    (work / models.CONFIG_FILE).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return config


def _origin(report: Report, hashes: Mapping[Path, str]) -> dict[str, Any]:
    source = report.source
    root = source.path if source.path.is_dir() else source.path.parent
    files = {file.path.relative_to(root).as_posix(): hashes[file.path] for file in source.files}
    return {"name": source.path.name, "role": report.title, "files": files}


def _converted(
    source: Source, keys: Mapping[str, Shape], loras: Sequence[Lora], dtype: torch.dtype
) -> Iterator[Tensor]:
    for key in keys:
        stored = source.read(key)
        tensor = merge(stored, key, loras).to(dtype)
        if not is_finite(tensor):
            raise not_finite(source, key, stored, dtype)
        yield tensor


def _write(
    path: Path,
    shapes: Mapping[str, Shape],
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    tensors: Iterator[Tensor],
    on_bytes: OnBytes,
) -> dict[str, Any]:
    """One .safetensors file, tensor by tensor: its size and sha256."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + dtype.itemsize * prod(shape)
        header[key] = {"dtype": _SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = _json(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb") as stream:

        def write(data: Any) -> None:
            stream.write(data)
            digest.update(data)

        write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
            write(data)
            on_bytes(len(data))
        stream.flush()
        os.fsync(stream.fileno())
        return {"bytes": stream.tell(), "sha256": digest.hexdigest()}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
