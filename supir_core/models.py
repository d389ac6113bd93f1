"""Which model: a directory of weights files, a packed directory, or the demo. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supir_core import diffusers_layout
from supir_core.errors import WeightsError
from supir_core.networks.dims import FULL, ModelDims

DEMO_MODEL = "demo"
CONFIG_FILE = "model.json"  # a model directory's dimensions; without it they are SDXL's
SUFFIXES = (".safetensors", ".ckpt", ".pth")  # of weights files in a model directory
DEMO_FOLDER = Path(__file__).with_name("demo_model")
DEMO_NOTICE = (
    "the demo model is tiny and has only ever seen drawn pictures: it shows what restoring does, not how well. "
    "Give --model DIR with an SDXL base and a SUPIR file to restore photos."
)


def notice(model: str) -> str:
    """What a user must be told of a model; empty if nothing."""
    return DEMO_NOTICE if model == DEMO_MODEL else ""


def directory_of(model: str) -> Path:
    """Where a model's files lie."""
    return DEMO_FOLDER if model == DEMO_MODEL else Path(model)


def read_dims(model: str) -> ModelDims:
    """The dimensions of a model: those in its `model.json`, or SDXL's.

    Raises:
        WeightsError: the file does not parse (`weights-config`).
    """
    config = _read_config(directory_of(model))
    if config is None:
        return FULL
    try:
        return ModelDims.from_dict(config["dims"])
    except (KeyError, TypeError, WeightsError) as error:
        raise _config_error(directory_of(model), error) from error


def packed_files(model: str) -> Mapping[Path, str]:
    """The files of a packed model and the sha256 that each had when it was packed; empty if the model is not packed.

    Raises:
        WeightsError: a file is missing (`weights-not-found`), has changed its size (`weights-changed`) or is not part
            of the model (`weights-unexpected`), or the record does not parse (`weights-config`).
    """
    directory = directory_of(model)
    config = _read_config(directory)
    if not isinstance(config, dict) or "packed" not in config:
        return {}
    record = {directory / name: (size, sha256) for name, size, sha256 in packed_record(config, model)}
    for file, (size, _) in record.items():
        if not file.is_file():
            raise WeightsError(
                f"{file} is missing from the packed model", hint="pack the model again", code="weights-not-found"
            )
        if file.stat().st_size != size:
            raise WeightsError(
                f"{file} has {file.stat().st_size} bytes, it was packed with {size}",
                hint="the file is damaged or was exchanged: pack the model again",
                code="weights-changed",
            )
    for source in _raw_sources(directory):
        if source not in record:
            raise WeightsError(
                f"{source} is not part of the packed model beside it, so it would have no effect",
                hint="move it elsewhere; to merge a LoRA, pack again with --lora",
                code="weights-unexpected",
            )
    return {file: digest for file, (_, digest) in sorted(record.items())}


def packed_record(config: Any, model: str) -> list[tuple[str, int, str]]:
    """Name, bytes and sha256 of each file of a packed model, sorted, as its `model.json` says.

    Raises:
        WeightsError: it says something else (`weights-config`).
    """
    try:
        files = config["packed"]["files"]
        record = [(str(name), int(files[name]["bytes"]), str(files[name]["sha256"])) for name in sorted(files)]
        if any(Path(name).name != name for name, _, _ in record):
            raise ValueError("a file outside of the directory")
        return record
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _config_error(directory_of(model), error) from error


def packed_digest(config: Any, model: str) -> str:
    """`model_digest` of a packed model, from its `model.json`.

    Raises:
        WeightsError: the file does not parse (`weights-config`).
    """
    try:
        dims = ModelDims.from_dict(config["dims"])
        digest = hashlib.sha256(json.dumps(dims.to_dict(), sort_keys=True).encode())
        for _, _, sha256 in packed_record(config, model):
            digest.update(bytes.fromhex(sha256))
    except (KeyError, TypeError, ValueError) as error:
        raise _config_error(directory_of(model), error) from error
    return digest.hexdigest()[:12]


def check_safetensors(model: str) -> None:
    """Refuse a model with files of another kind: pickles can run code.

    Raises:
        WeightsError: `weights-pickle`, or as `model_sources`.
    """
    for file in model_files(model):
        with file.open("rb") as stream:
            if stream.read(9)[8:] != b"{":
                raise WeightsError(
                    f"{file} is no safetensors file, and on a cluster nothing else is loaded",
                    hint="supir weights pack writes a model of safetensors",
                    code="weights-pickle",
                )


def model_sources(model: str) -> list[Path]:
    """What a model directory is made of, sorted: weights files, and folders in diffusers' layout.

    Raises:
        WeightsError: there is no such directory or it holds none (`weights-not-found`); see also `packed_files`.
    """
    directory = directory_of(model)
    sources = list(packed_files(model)) or _raw_sources(directory)
    if not sources:
        raise WeightsError(
            f"no weights files ({', '.join(SUFFIXES)}) in {directory}"
            if directory.is_dir()
            else f"there is no directory {directory}",
            hint="--model takes a directory that holds an SDXL base and a SUPIR file, or the word demo",
            code="weights-not-found",
        )
    return sources


def _raw_sources(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    files = [path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    folders = [path for path in (directory, *directory.iterdir()) if diffusers_layout.find_files(path)]
    return sorted(files + folders)


def model_files(model: str) -> list[Path]:
    """Every file with weights of a model, sorted; errors as `model_sources`."""
    return [file for source in model_sources(model) for file in files_of(source)]


def files_of(source: Path) -> list[Path]:
    """The files of one source: itself, or those in a folder of diffusers' layout."""
    if not source.is_dir():
        return [source]
    return sorted(file for files in diffusers_layout.find_files(source).values() for file in files)


def model_digest(model: str) -> str:
    """12 hex digits of a model's weights.

    Reads every byte of its files once; a packed model's hashes were recorded when it was packed.
    """
    digest = hashlib.sha256(json.dumps(read_dims(model).to_dict(), sort_keys=True).encode())
    if packed_files(model):
        return packed_digest(_read_config(directory_of(model)), model)
    for file in model_files(model):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def _read_config(directory: Path) -> Any:
    """What `model.json` holds; None if there is none."""
    file = directory / CONFIG_FILE
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _config_error(directory, error) from error


def _config_error(directory: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{directory / CONFIG_FILE} does not parse: {error}",
        hint="it should be as supir weights pack wrote it; without it the dimensions are SDXL's",
        code="weights-config",
    )
