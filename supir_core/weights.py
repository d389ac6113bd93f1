"""Strict loading of a model's weights: every tensor there once, of the right shape, without NaN."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from supir_core import lora
from supir_core.checkpoint import FLOATS, is_finite, some
from supir_core.errors import WeightsError
from supir_core.models import CONFIG_FILE, model_sources, packed_files, read_dims
from supir_core.networks.dims import ModelDims
from supir_core.networks.vae import Vae
from supir_core.parts import PREFIXES, UNUSED_KEYS, Networks, Shape, build_networks, is_unused, wanted
from supir_core.precision import Precision
from supir_core.published import Source, open_source

__all__ = [
    "PREFIXES",
    "UNUSED_KEYS",
    "Networks",
    "build_networks",
    "check_model",
    "load_networks",
    "load_vae",
]


def load_networks(model: str, device: torch.device, precision: Precision) -> Networks:
    """The networks of a model, on the device.

    Tensors that are stored as asked for are mapped from their files when the device is the CPU, not copied; but for
    the weights of convolutions, which change their layout.

    Args:
        model: a directory of weights files, one made by `supir weights pack`, or `demo`.
        device: where the weights go.
        precision: which part computes in what.

    Raises:
        WeightsError: a tensor is missing, unknown, of the wrong shape or type, holds NaN or infinity or is given twice,
            or a file is damaged or not what was packed.
    """
    networks, source = _checked(model)
    for name, module in networks.components().items():
        _fill(name, module, source, device, precision)
    return networks


def load_vae(model: str, device: torch.device, precision: Precision) -> Vae:
    """The autoencoder of a model alone, as `load_networks` loads it."""
    networks, source = _checked(model)
    _fill("vae", networks.vae, source, device, precision)
    return networks.vae


def _fill(name: str, module: nn.Module, source: _Files, device: torch.device, precision: Precision) -> None:
    dtype = precision.dtype_of(name)
    state = {key: source.read(PREFIXES[name] + key, device, dtype) for key in module.state_dict()}
    module.load_state_dict(state, assign=True)
    precision.settle(name, module)


def check_model(model: str) -> None:
    """Read the headers of a model's files and see that they hold what the networks need.

    Raises:
        WeightsError: as `load_networks` would, but for NaN and infinity, without loading.
    """
    _checked(model)


def _checked(model: str) -> tuple[Networks, _Files]:
    """Networks without weights, and a source that can fill every tensor of them."""
    dims = read_dims(model)
    expected = {key: shape for part in wanted(dims).values() for key, shape in part.items()}
    files = _Files(model, dims)
    files.check(expected)
    return build_networks(dims), files


class _Files:
    """Tensors of every weights file in a directory."""

    def __init__(self, directory: str, dims: ModelDims):
        self.directory = directory
        self._finite = bool(packed_files(directory))  # packing has seen to it
        self._source_of: dict[str, Source] = {}
        for path in model_sources(directory):
            source = open_source(path, dims)
            for key in source.entries:
                if key in self._source_of and not is_unused(key):
                    raise WeightsError(
                        f"{key} stands in both {self._source_of[key].path.name} and {path.name}",
                        hint=f"keep one SDXL base and one SUPIR file in {directory}",
                        code="weights-duplicate",
                    )
                self._source_of[key] = source

    def check(self, expected: Mapping[str, Shape]) -> None:
        missing = [key for key in expected if key not in self._source_of]
        unknown = [key for key in self._source_of if key not in expected and not is_unused(key)]
        if missing:
            raise WeightsError(
                f"{self.directory} lacks {len(missing)} tensors: {some(missing)}",
                hint="a SUPIR model needs an SDXL base file and a SUPIR-v0Q or v0F file in one directory; "
                "supir weights check DIR says what each file is",
                code="weights-missing",
            )
        if unknown:
            source = self._source_of[unknown[0]]
            merge = "; to merge a LoRA: supir weights pack --lora" if lora.is_lora(source.entries) else ""
            raise WeightsError(
                f"{self.directory} holds {len(unknown)} unknown tensors: {some(unknown)}",
                hint=f"move {source.path.name} elsewhere if it does not belong to this model{merge}",
                code="weights-unexpected",
            )
        for key, shape in expected.items():
            source = self._source_of[key]
            if source.entries[key].shape != shape:
                raise WeightsError(
                    f"{key} in {source.path.name} is {source.entries[key].shape}, not {shape}",
                    hint=f"is it a file of another model? Dimensions come from {CONFIG_FILE}, or are SDXL's",
                    code="weights-shape",
                )
            if source.entries[key].dtype not in FLOATS:
                raise WeightsError(
                    f"{key} in {source.path.name} is stored as {source.entries[key].dtype}",
                    hint="get the fp32, fp16 or bf16 version",
                    code="weights-dtype",
                )

    def read(self, key: str, device: torch.device, dtype: torch.dtype) -> Tensor:
        source = self._source_of[key]
        stored = source.read(key).to(device)
        tensor = stored.to(dtype).contiguous()
        if not (self._finite and tensor.dtype == stored.dtype) and not is_finite(tensor):
            raise not_finite(source, key, stored, dtype)
        return tensor


def not_finite(source: Source, key: str, stored: Tensor, dtype: torch.dtype) -> WeightsError:
    """What to say of a tensor that holds NaN or infinity: as stored, or only as `dtype`."""
    if is_finite(stored):
        name = str(dtype).removeprefix("torch.")
        return WeightsError(
            f"{key} in {source.path} does not fit into {name}", hint="use bfloat16", code="weights-overflow"
        )
    return WeightsError(
        f"{key} in {source.path} holds NaN or infinity",
        hint="the file is broken: get it again and compare its sha256",
        code="weights-nan",
    )
