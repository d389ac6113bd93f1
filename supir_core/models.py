"""Which model: a directory of weights files, or the demo. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from supir_core.errors import WeightsError
from supir_core.networks.dims import DEMO, FULL, ModelDims

DEMO_MODEL = "demo"
CONFIG_FILE = "model.json"  # a model directory's dimensions; without it they are SDXL's
RANDOM_WEIGHTS_NOTICE = (
    "the demo model has RANDOM weights: every stage runs, but the pictures are noise. "
    "Give --model DIR with an SDXL base and a SUPIR file to restore photos."
)


def notice(model: str) -> str:
    """What a user must be told of a model; empty if nothing."""
    return RANDOM_WEIGHTS_NOTICE if model == DEMO_MODEL else ""


def read_dims(model: str) -> ModelDims:
    """The dimensions of a model: those in its `model.json`, or SDXL's.

    Raises:
        WeightsError: the file does not parse (`weights-config`).
    """
    if model == DEMO_MODEL:
        return DEMO
    config = Path(model) / CONFIG_FILE
    if not config.exists():
        return FULL
    try:
        return ModelDims.from_dict(json.loads(config.read_text(encoding="utf-8"))["dims"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{config} does not parse: {error}", code="weights-config") from error


def model_files(model: str) -> list[Path]:
    """The weights files of a model directory, sorted.

    Raises:
        WeightsError: there is no such directory or it holds none (`weights-not-found`).
    """
    directory = Path(model)
    files = sorted(directory.glob("*.safetensors")) if directory.is_dir() else []
    if not files:
        raise WeightsError(
            f"no .safetensors files in {directory}",
            hint="--model takes a directory that holds an SDXL base and a SUPIR file, or the word demo",
            code="weights-not-found",
        )
    return files


def model_digest(model: str) -> str:
    """12 hex digits of a model's weights; reads every byte of its files once."""
    if model == DEMO_MODEL:
        return hashlib.sha256(json.dumps(["formula", DEMO.to_dict()], sort_keys=True).encode()).hexdigest()[:12]
    digest = hashlib.sha256(json.dumps(read_dims(model).to_dict(), sort_keys=True).encode())
    for file in model_files(model):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
