"""Which model writes captions, how it is asked, and what all of that comes to in 12 digits. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from supir_core.caption_text import CLEANING
from supir_core.errors import InputError, WeightsError

QUANTIZATIONS = ("none", "float8")
DECIDING = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja")  # files that captions hang on
_DOWNLOADED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


@dataclass(frozen=True)
class Sampling:
    """How the next word is chosen."""

    temperature: float = 0.0  # 0: always the likeliest one
    top_p: float = 1.0  # of the likeliest ones that have this much probability together


GREEDY = Sampling()
PUBLISHED = Sampling(temperature=0.2, top_p=0.7)
RETRY = Sampling(temperature=0.7, top_p=0.9)  # for what came out empty: the published one is nearly greedy


@dataclass(frozen=True)
class CaptionSettings:
    """What a captioner is asked, and how much it may say.

    Raises:
        InputError: a value out of its range.
    """

    question: str | None = None  # the published one, or the task prompt of models that know no questions
    max_new_tokens: int = 128  # per photo; CLIP takes fewer, but nobody knows how many of them clean-up leaves
    time_limit_s: float = 120.0  # for a batch with its second attempts; the model is not stopped within a token
    sampling: Sampling = GREEDY
    seed: int = 1234  # with a photo's key: all randomness of its caption

    def __post_init__(self) -> None:
        ranges = {
            "max_new_tokens": self.max_new_tokens >= 1,
            "time_limit_s": self.time_limit_s > 0,
            "temperature": 0 <= self.sampling.temperature <= 10,
            "top_p": 0 < self.sampling.top_p <= 1,
        }
        wrong = [name for name, right in ranges.items() if not right]
        if wrong:
            raise InputError(f"captions: {wrong[0]} is out of its range")


def caption_directory(model: str, allow_download: bool = False) -> Path:
    """Where the files of a captioning model lie.

    Args:
        model: a directory, or a name such as `llava-hf/llava-1.5-7b-hf` in the local cache of Hugging Face.
        allow_download: ask the hub for a name. Off, nothing is ever asked.

    Raises:
        WeightsError: no such directory, and no such name in the cache (`weights-not-found`); it holds no model of
            transformers (`captioner-unsupported`), or none of its weights (`weights-not-found`).
    """
    directory = _directory(model, allow_download)
    try:
        json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{directory} holds no model of transformers: config.json is not there, or damaged",
            hint="give the directory of a captioning model, such as LLaVA as transformers has it",
            code="captioner-unsupported",
        ) from error
    if not any(file.suffix in (".safetensors", ".bin") for file in caption_files(directory)):
        raise WeightsError(
            f"{directory} has no weights", hint="copy the model's .safetensors files, too", code="weights-not-found"
        )
    return directory


def _directory(model: str, allow_download: bool) -> Path:
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise WeightsError(
            f"there is no directory {model}",
            hint="give the directory of a captioning model, or its name in the local cache",
            code="weights-not-found",
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, allow_patterns=_DOWNLOADED)
            if allow_download
            else snapshot_download(model, local_files_only=True)
        )
    except (OSError, ValueError) as error:  # the hub's own errors are among them
        raise WeightsError(
            f"{model} could not be downloaded: {_first_line(error)}"
            if allow_download
            else f"{model} is neither a directory nor in the local cache",
            hint="" if allow_download else "--allow-download fetches it; else nothing is downloaded",
            code="weights-not-found",
        ) from error


def caption_digest(
    directory: Path, settings: CaptionSettings, dtype: str | None = None, quantization: str = "none"
) -> str:
    """12 hex digits of all that decides a model's captions; reads every byte of its weights, unless their names say it.

    The time limit is no part of it: what it cuts off says so (`caption-timed-out`) and had better not be kept.
    """
    asked = asdict(settings)
    del asked["time_limit_s"]
    digest = hashlib.sha256(json.dumps([asked, dtype, quantization, CLEANING], sort_keys=True).encode())
    for file in caption_files(directory):
        digest.update(f"\0{file.relative_to(directory)}\0{_sha256(file)}".encode())
    return digest.hexdigest()[:12]


def caption_files(directory: Path) -> list[Path]:
    """The files of a captioning model that decide its captions, sorted."""
    found = sorted(path for path in directory.rglob("*") if path.suffix in DECIDING and path.is_file())
    files = [path for path in found if not any(part.startswith(".") for part in path.relative_to(directory).parts)]
    mapped = any(path.suffix == ".safetensors" for path in files)
    return [path for path in files if not (mapped and path.suffix == ".bin")]


def _sha256(file: Path) -> str:
    """The hash of a file; large files in the hub's cache are links to files that have it as their name."""
    name = file.resolve().name
    if file.is_symlink() and len(name) == 64 and set(name) <= set("0123456789abcdef"):
        return name
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
