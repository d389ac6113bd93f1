"""One file of weights, opened lazily: names, shapes and number types at once, tensors when they are read.

What a file is follows from its first bytes, not from its name: people rename files.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from supir_core.errors import WeightsError

FLOATS = ("float32", "float16", "bfloat16")  # what weights may be stored as
_SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_CHUNK = 1 << 22


class Entry(NamedTuple):
    """What a file's header says of one tensor."""

    shape: tuple[int, ...]
    dtype: str  # torch's name, such as float16


@dataclass(frozen=True)
class Checkpoint:
    """One opened file. Tensors are mapped from it, so it must not be written to while they are in use."""

    path: Path
    kind: str  # safetensors or pickle
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    read: Callable[[str], Tensor]  # on the CPU


def open_checkpoint(path: Path) -> Checkpoint:
    """A file of weights: .safetensors, or a PyTorch file (.ckpt, .pth) of tensors and nothing else.

    Raises:
        WeightsError: there is no such file (`weights-not-found`), it is damaged or not a file of weights
            (`weights-damaged`), or a pickle that holds more than tensors (`weights-pickle`): those can run code.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}", hint="is the path right?", code="weights-not-found"
        ) from error
    if head[8:9] == b"{":
        return _open_safetensors(path)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _open_pickle(path, mapped=head[:2] == b"PK")
    raise _damaged(path, _what_it_is_instead(head))


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        file: Any = safe_open(path, framework="pt")
        entries = {}
        for key in file.keys():  # noqa: SIM118  # not a dict
            header = file.get_slice(key)
            dtype = header.get_dtype()
            entries[key] = Entry(tuple(header.get_shape()), _SAFETENSORS_DTYPES.get(dtype, dtype.lower()))
        return Checkpoint(path, "safetensors", entries, file.metadata() or {}, file.get_tensor)
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        cut = f"its {size} bytes are not those that its header names" if "not fully covered" in str(error) else ""
        raise _damaged(path, cut or str(error)) from error


def _open_pickle(path: Path, mapped: bool) -> Checkpoint:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            content: Any = _load_pickle(path, mapped)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError) as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden:
            raise WeightsError(
                f"{path} holds more than tensors ({forbidden[1]}); it was not loaded, as such a file can run code",
                hint="get the .safetensors version, or ask whoever made it for a file of tensors alone",
                code="weights-pickle",
            ) from error
        advice = isinstance(error, pickle.UnpicklingError)  # torch's own text, to load it without the check: no
        why = "it is no PyTorch file of tensors" if advice else (str(error) or type(error).__name__).splitlines()[0]
        raise _damaged(path, why) from error
    while isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise _damaged(path, "it holds no tensors")
    entries = {key: Entry(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for key, t in tensors.items()}
    return Checkpoint(path, "pickle", entries, {}, tensors.__getitem__)


def _load_pickle(path: Path, mapped: bool) -> Any:
    if path.suffix.lower() == ".safetensors":  # torch goes by the name, unless it is given a stream
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def _what_it_is_instead(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself (git lfs pull)"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, saved in place of the file"
    return f"it starts with {head[:8]!r}"


def _damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{path} is damaged or not a file of weights: {why}",
        hint="compare its size and sha256 with where you got it",
        code="weights-damaged",
    )


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> str:
    """The hash of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            on_bytes(len(chunk))
    return digest.hexdigest()


def is_finite(tensor: Tensor) -> bool:
    """Whether there is no NaN and no infinity in it; one pass, no copy."""
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return True
    low, high = torch.aminmax(tensor)  # NaN spreads to both
    return bool(torch.isfinite(low) & torch.isfinite(high))


def some(keys: list[str]) -> str:
    """The first five of many names."""
    return ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
