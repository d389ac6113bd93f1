"""Which file holds which component; strict loading of weights under the published names."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from supir_core.errors import WeightsError
from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import DEMO, FULL, ModelDims
from supir_core.networks.text import TextEncoders
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Vae

DEMO_MODEL = "demo"
CONFIG_FILE = "model.json"  # a model directory's dimensions; without it they are SDXL's

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
    networks = build_networks(DEMO if model == DEMO_MODEL else read_dims(Path(model)))
    source = _Formula() if model == DEMO_MODEL else _Files(Path(model))
    expected = {
        PREFIXES[name] + key: tensor.shape
        for name, module in networks.components().items()
        for key, tensor in module.state_dict().items()
    }
    source.check(expected)
    for name, module in networks.components().items():
        target = vae_dtype if name == "vae" else dtype
        state = {
            key: source.read(PREFIXES[name] + key, tensor.shape, device).to(target)
            for key, tensor in module.state_dict().items()
        }
        module.load_state_dict(state, assign=True)
        module.requires_grad_(False).eval()
    return networks


def read_dims(directory: Path) -> ModelDims:
    """The dimensions of a model directory: its `model.json`, or SDXL's."""
    config = directory / CONFIG_FILE
    if not config.exists():
        return FULL
    try:
        return ModelDims.from_dict(json.loads(config.read_text(encoding="utf-8"))["dims"])
    except (json.JSONDecodeError, KeyError) as error:
        raise WeightsError(f"{config} does not parse: {error}", code="weights-config") from error


def model_files(directory: Path) -> list[Path]:
    """The weights files of a model directory, sorted.

    Raises:
        WeightsError: there is no such directory or it holds none.
    """
    files = sorted(directory.glob("*.safetensors")) if directory.is_dir() else []
    if not files:
        raise WeightsError(
            f"no .safetensors files in {directory}",
            hint="--model takes a directory that holds an SDXL base and a SUPIR file, or the word demo",
            code="weights-not-found",
        )
    return files


def model_digest(model: str) -> str:
    """12 hex digits of the model's files; reads every byte once."""
    if model == DEMO_MODEL:
        return hashlib.sha256(json.dumps(["formula", DEMO.to_dict()], sort_keys=True).encode()).hexdigest()[:12]
    digest = hashlib.sha256()
    for file in model_files(Path(model)):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


class _Files:
    """Tensors of every .safetensors file in a directory."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._file_of: dict[str, Path] = {}
        for file in model_files(directory):
            for key in _keys(file):
                if key in self._file_of:
                    raise WeightsError(
                        f"{key} stands in both {self._file_of[key].name} and {file.name}",
                        hint=f"keep one SDXL base and one SUPIR file in {directory}",
                        code="weights-duplicate",
                    )
                self._file_of[key] = file

    def check(self, expected: Mapping[str, torch.Size]) -> None:
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

    def read(self, key: str, shape: torch.Size, device: torch.device) -> Tensor:
        with safe_open(self._file_of[key], framework="pt", device=str(device)) as file:
            tensor: Tensor = file.get_tensor(key)
        if tensor.shape != shape:
            raise WeightsError(
                f"{key} in {self._file_of[key].name} is {tuple(tensor.shape)}, not {tuple(shape)}",
                hint=f"is it a file of another model? Dimensions come from {CONFIG_FILE}, or are SDXL's",
                code="weights-shape",
            )
        return tensor


def _keys(file: Path) -> Iterator[str]:
    try:
        with safe_open(file, framework="pt") as opened:
            yield from opened.keys()
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

    def check(self, expected: Mapping[str, torch.Size]) -> None:
        """It can fill any tensor."""

    def read(self, key: str, shape: torch.Size, device: torch.device) -> Tensor:
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
