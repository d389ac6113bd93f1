"""Stage-1 latents: what is computed of a photo before its look matters, and as bytes, to be kept for other looks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor


class Latents(NamedTuple):
    """Of one photo at one size; all (1, 4, h, w) float32, times the scale.

    As bytes they take 0.75 MB per megapixel that the networks see, or half of that where the autoencoder computes in
    bfloat16 (a cell of 64 pixels has 3 x 4 numbers).
    """

    z_control: Tensor  # what the control branch sees
    mean: Tensor  # of what the pull goes towards, which each seed draws for itself
    std: Tensor

    def to(self, device: torch.device) -> Latents:
        """On a device."""
        return Latents(*(tensor.to(device) for tensor in self))


def to_bytes(latents: Latents, made_with: Mapping[str, str]) -> bytes:
    """A small safetensors file; in 16 bits where that loses nothing.

    Args:
        latents: of a photo.
        made_with: what decided them; `from_bytes` asks for the same.
    """
    tensors = {name: _smallest(tensor.cpu()) for name, tensor in latents._asdict().items()}
    return save(tensors, metadata=dict(made_with))


def from_bytes(data: bytes, made_with: Mapping[str, str]) -> Latents | None:
    """The latents of a file; None if it is damaged, or something else has decided them."""
    try:
        tensors = load(data)
        if _metadata(data) != dict(made_with):
            return None
        return Latents(*(tensors[name].float() for name in Latents._fields))
    except (SafetensorError, KeyError, ValueError):
        return None


def _metadata(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    return found


def _smallest(tensor: Tensor) -> Tensor:
    short = tensor.to(torch.bfloat16)
    return (short if torch.equal(short.float(), tensor) else tensor).contiguous()
