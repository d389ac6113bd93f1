"""Number types: the one place that decides which part computes in what."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.errors import InputError

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max


@dataclass(frozen=True)
class Precision:
    """What the parts of a model compute in. Samplers, schedules and colours are float32 always."""

    networks: torch.dtype  # UNet, control branch, text encoders
    vae: torch.dtype  # never float16, which overflows in it
    fp8_weights: bool = False  # linear layers of UNet and control branch keep their weights in 8 bits

    def dtype_of(self, component: str) -> torch.dtype:
        """What a component of `parts.PREFIXES` computes in."""
        return self.vae if component == "vae" else self.networks

    def settle(self, component: str, module: nn.Module) -> None:
        """Make a component that has its weights, of `dtype_of`, ready to run: in place."""
        if self.fp8_weights and component in ("unet", "control"):
            store_linears_as_fp8(module)
        module.requires_grad_(False).eval()
        module.to(memory_format=torch.channels_last)  # in which convolutions are fastest, on GPUs and processors


PRECISIONS = {
    "float32": Precision(torch.float32, torch.float32),
    "bfloat16": Precision(torch.bfloat16, torch.bfloat16),
    "float16": Precision(torch.float16, torch.bfloat16),
    "float8": Precision(torch.bfloat16, torch.bfloat16, fp8_weights=True),
}
"""By the name that `--dtype` takes."""


def precision_named(name: str | None, device: torch.device) -> Precision:
    """The precision of a name; without one, bfloat16 on a GPU and float32 elsewhere.

    Raises:
        InputError: no such name (`dtype`).
    """
    chosen = name or ("bfloat16" if device.type == "cuda" else "float32")
    if chosen not in PRECISIONS:
        raise InputError(f"unknown dtype {chosen!r}", hint=f"one of {', '.join(PRECISIONS)}", code="dtype")
    return PRECISIONS[chosen]


def device_named(name: str | None) -> torch.device:
    """The device of a name: `cuda`, `cuda:1`, `cpu`; without one, the first GPU if there is one.

    Raises:
        InputError: no such device, or not here (`device`).
    """
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if re.fullmatch(r"cpu|cuda(:\d+)?", chosen) is None:
        raise InputError(f"unknown device {chosen!r}", hint="cuda, cuda:1 or cpu", code="device")
    device = torch.device(chosen)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        what = f"there is no {chosen}: {there} CUDA devices" if there else "no CUDA device is available"
        raise InputError(what, hint="leave --device out to use what is there", code="device")
    return device


class Fp8Linear(nn.Module):
    """A linear layer with weights stored as float8 (e4m3) and one scale per output channel.

    Computes in the input's dtype: it saves memory and bandwidth, not arithmetic.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny) / FP8_MAX
        self.register_buffer("weight", (weight / scale).to(FP8))  # (out, in)
        self.register_buffer("scale", scale.to(linear.weight.dtype))  # (out, 1)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def store_linears_as_fp8(module: nn.Module) -> None:
    """Replace every linear layer inside a module by an `Fp8Linear`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Fp8Linear(child))
        else:
            store_linears_as_fp8(child)
