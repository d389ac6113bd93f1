"""Which file holds which component; strict loading of weights under the published names."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from supir_core.errors import WeightsError
from supir_core.models import CONFIG_FILE, DEMO_MODEL, model_files, read_dims
from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import ModelDims
from supir_core.networks.text import TextEncoders
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Vae

# In the order of published names: `project_modules` belongs to the UNet's prefix, `denoise_encoder` to the VAE's.
PREFIXES = {
    "unet": "model.diffusion_model.",
    "control": "model.control_model.",
    "vae": "first_stage_model.",
    "clip_l": "conditioner.embedders.0.transformer.text_model.",
    "open_clip": "conditioner.embedders.1.model.",
}

# Real files carry these; nothing here uses them.
UNUSED_KEYS = (
    "conditioner.embedders.0.transformer.text_model.embeddings.position_ids",
    "conditioner.embedders.1.model.logit_scale",
    "denoiser.sigmas",
)
UNUSED_PREFIXES = ("model_ema.",)


@dataclass(frozen=True)
class Networks:
    """The loaded networks of one model."""

    dims: ModelDims
    vae: Vae
    unet: UNet
    control: ControlBranch
    text: TextEncoders

    def components(self) -> Mapping[str, nn.Module]:
        """Modules by the names of `PREFIXES`."""
        return {
            "unet": self.unet,
            "control": self.control,
            "vae": self.vae,
            "clip_l": self.text.clip_l,
            "open_clip": self.text.open_clip,
        }


def build_networks(dims: ModelDims) -> Networks:
    """The networks without weights (on the meta device): a load must fill every tensor."""
    with torch.device("meta"):
        return Networks(dims, Vae(dims.vae), UNet(dims.unet), ControlBranch(dims.unet), TextEncoders(dims.text))


def load_networks(model: str, device: torch.device, dtype: torch.dtype, vae_dtype: torch.dtype) -> Networks:
    """The networks of a model, on the device.

    Args:
        model: a directory of .safetensors files, or `demo`.
        device: where the weights go.
        dtype: of UNet, control branch and text encoders.
        vae_dtype: of the autoencoder; float16 overflows in it.

    Raises:
        WeightsError: a tensor is missing, unknown, of the wrong shape or given twice, or a file is damaged.
    """
    networks, source = _checked(model)
    for name, module in networks.components().items():
        target = vae_dtype if name == "vae" else dtype
        state = {
            key: source.read(PREFIXES[name] + key, tensor.shape, device).to(target)
            for key, tensor in module.state_dict().items()
        }
        module.load_state_dict(state, assign=True)
        module.requires_grad_(False).eval()
    return networks


def check_model(model: str) -> None:
    """Read the headers of a model's files and see that they hold what the networks need.

    Raises:
        WeightsError: as `load_networks` would, without loading.
    """
    if model != DEMO_MODEL:
        _checked(model)


def _checked(model: str) -> tuple[Networks, _Files | _Formula]:
    """Networks without weights, and a source that can fill every tensor of them."""
    networks = build_networks(read_dims(model))
    if model == DEMO_MODEL:
        return networks, _Formula()
    files = _Files(model)
    files.check(
        {
            PREFIXES[name] + key: tuple(tensor.shape)
            for name, module in networks.components().items()
            for key, tensor in module.state_dict().items()
        }
    )
    return networks, files


class _Files:
    """Tensors of every .safetensors file in a directory."""

    def __init__(self, directory: str):
        self.directory = directory
        self._file_of: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in model_files(directory):
            for key, shape in _shapes(file):
                self._shapes[key] = shape
                if key in self._file_of:
                    raise WeightsError(
                        f"{key} stands in both {self._file_of[key].name} and {file.name}",
                        hint=f"keep one SDXL base and one SUPIR file in {directory}",
                        code="weights-duplicate",
                    )
                self._file_of[key] = file

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        missing = [key for key in expected if key not in self._file_of]
        unknown = [
            key
            for key in self._file_of
            if key not in expected and key not in UNUSED_KEYS and not key.startswith(UNUSED_PREFIXES)
        ]
        if missing:
            raise WeightsError(
                f"{self.directory} lacks {len(missing)} tensors: {_some(missing)}",
                hint="a SUPIR model needs an SDXL base file and a SUPIR-v0Q or v0F file in one directory",
                code="weights-missing",
            )
        if unknown:
            raise WeightsError(
                f"{self.directory} holds {len(unknown)} unknown tensors: {_some(unknown)}",
                hint=f"move {self._file_of[unknown[0]].name} elsewhere if it does not belong to this model",
                code="weights-unexpected",
            )
        for key, shape in expected.items():
            if self._shapes[key] != shape:
                raise WeightsError(
                    f"{key} in {self._file_of[key].name} is {self._shapes[key]}, not {shape}",
                    hint=f"is it a file of another model? Dimensions come from {CONFIG_FILE}, or are SDXL's",
                    code="weights-shape",
                )

    def read(self, key: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
        with safe_open(self._file_of[key], framework="pt", device=str(device)) as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor


def _shapes(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes in a file's header."""
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118  # not a dict
                yield key, tuple(opened.get_slice(key).get_shape())
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} is damaged or not a safetensors file: {error}",
            hint="compare its size and sha256 with where you got it",
            code="weights-damaged",
        ) from error


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")


class _Formula:
    """Random weights that are the same everywhere, for every key and shape."""

    def read(self, key: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
        return formula_tensor(key, shape).to(device)


def formula_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """Random but reproducible weights of one tensor, from its published name alone.

    Nothing is left at zero, so every layer takes part: norm scales 1 + 0.1 n, other vectors 0.1 n, embeddings 0.02 n,
    the rest n / sqrt(fan in), for n from N(0, 1) seeded by the name's CRC-32. These are the weights of the parity data.

    Returns:
        float32 of `shape`.
    """
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if n.ndim == 1:
        n = np.float32(0.1) * n + (1 if key.endswith(".weight") else 0)
    elif any(part in key for part in ("token_embedding", "positional_embedding", "position_embedding")):
        n = np.float32(0.02) * n
    else:
        n = n / np.sqrt(np.float32(np.prod(shape[1:])))
    return torch.from_numpy(np.ascontiguousarray(n, dtype=np.float32))
