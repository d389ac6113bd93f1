"""Options that several commands take, and the words that options choose from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, TypeVar, get_args

import typer
from typer.models import OptionInfo

Command = TypeVar("Command", bound=Callable[..., None])


class ProgressStyle(StrEnum):
    """How a run shows its progress."""

    auto = "auto"
    bar = "bar"
    plain = "plain"
    none = "none"


class OutputFormat(StrEnum):
    """File formats of results."""

    keep = "keep"
    png = "png"
    jpeg = "jpeg"
    webp = "webp"
    tiff = "tiff"


class LogStyle(StrEnum):
    """How a run and its workers log."""

    text = "text"
    json = "json"


class PackedDtype(StrEnum):
    """Number types of packed models."""

    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"


class NumberType(StrEnum):
    """What the networks compute in; float8 stores their weights in 8 bits."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float8 = "float8"


class Quantization(StrEnum):
    """How a captioning model's weights are stored."""

    none = "none"
    float8 = "float8"


class NetworkSizes(StrEnum):
    """Sizes of networks with random weights."""

    demo = "demo"
    full = "full"


_PRESET = (
    "A shipped preset (see: supir presets list) or a .toml file. Default: demo with the demo model, else faithful."
)
Preset = Annotated[str | None, typer.Option("--preset", help=_PRESET)]
Presets = Annotated[
    list[str] | None,
    typer.Option("--preset", help=_PRESET + " Repeatable: every photo is fetched, captioned and cleaned once for all."),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=VALUE,VALUE...",
        help="A look for each value, in one pass: --sweep pull.tau_r=0.5,1,2,4,off, from the strongest pull to none. "
        "Repeatable: then a look for each combination.",
    ),
]
KeepLatents = Annotated[
    bool,
    typer.Option(
        "--keep-latents",
        help="Keep what stage 1 computes of every photo in the output, 0.75 MB per megapixel that the networks see "
        "(half of it in bfloat16): supir reprocess then makes other looks without it.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change the preset; repeatable. --set size.upscale=4; --set pull.tau_r=1.5: a LARGER tau_r is a WEAKER "
        "pull towards the photo, 'off' is none. Or say where captions come from: --set caption.source=sidecar.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="Directory with an SDXL base and a SUPIR file, or one that supir weights pack wrote; "
        "or 'demo', the tiny model that comes with the project."
    ),
]
Quality = Annotated[
    int | None, typer.Option(min=1, max=100, help="Of JPEG and WebP results. Default: 95 of JPEG, 92 of WebP.")
]
AcceptDamaged = Annotated[
    bool,
    typer.Option(
        "--accept-damaged",
        help="Restore what is there of photos of which a part is missing; the networks INVENT the rest. "
        "Else they fail with 'damaged'.",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Only the I-th of N parts of the photos, for N runs at the same time."),
]
PhotoTimeout = Annotated[
    float | None,
    typer.Option(
        "--photo-timeout",
        min=1,
        metavar="SECONDS",
        help="A photo that takes longer fails with timed-out; the wait for the networks does not count. "
        "Default: 3600 on a GPU, 43200 on the processor.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cuda, cuda:1, cpu. Default: a GPU if there is one.")]
Dtype = Annotated[
    NumberType | None, typer.Option(help="Of the networks. Default: bfloat16 on a GPU, float32 on the processor.")
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Run the networks through torch.compile, with CUDA graphs: for long runs on a GPU, as compiling takes "
        "minutes (on a processor it is not worth it). Where it fails, the log says why and all goes on without.",
    ),
]
AllowDownload = Annotated[
    bool,
    typer.Option("--allow-download", help="Fetch a captioning model that is not there; else nothing is fetched."),
]
AllowUris = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-uri",
        metavar="PREFIX",
        help="Open photos and caption files of a list only if their URIs begin so; repeatable. Default: object stores, "
        "http(s) at public addresses and, unless on a cluster, local files.",
    ),
]
LogFormat = Annotated[
    LogStyle, typer.Option("--log-format", help="json: one JSON object a line on stderr, with run and photo_id.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, for scripts.")]
JsonAlone = Annotated[bool, typer.Option("--json", help="Print the JSON object alone, without the table before it.")]


def takes_options_of(other: Callable[..., None], *but: str) -> Callable[[Command], Command]:
    """A decorator: the command takes the options of another one too, as `**options`, but for some.

    Args:
        other: a command.
        but: names of its parameters that are left out.
    """

    def decorate(command: Command) -> Command:
        theirs = inspect.signature(other, eval_str=True).parameters
        ours = inspect.signature(command, eval_str=True).parameters
        own = [parameter for parameter in ours.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        added = [parameter for name, parameter in theirs.items() if name not in (*ours, *but)]
        keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*added, *own)]
        command.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
        return command

    return decorate


def words_of(command: Callable[..., None], options: dict[str, Any], but: Sequence[str]) -> list[str]:
    """Options as words of a command line; those that have their usual values are left out.

    Args:
        command: a command, of which every parameter is an option.
        options: by the names of its parameters.
        but: parameters that are left out.
    """
    words: list[str] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        value = options.get(name)
        if name in but or value is None or value == parameter.default:
            continue
        (option,) = (part for part in get_args(parameter.annotation)[1:] if isinstance(part, OptionInfo))
        declared = [option.default, *(option.param_decls or ())]  # typer takes the first for a default
        long = [word for word in declared if isinstance(word, str) and word.startswith("--")]
        word = long[0] if long else "--" + name.replace("_", "-")
        if value is True:
            words.append(word)
        for one in value if isinstance(value, list | tuple) else [] if isinstance(value, bool) else [value]:
            words += [word, str(one.value if isinstance(one, StrEnum) else one)]
    return words


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as the library names them: values of enums, without the underscores that keep Python's words free."""
    return {name.rstrip("_"): value.value if isinstance(value, StrEnum) else value for name, value in options.items()}
