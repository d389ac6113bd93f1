"""How the captions of a run come about: `--set caption.KEY=VALUE`. Imports no torch.

Captions are no part of a preset: they tell what a photo shows, not what its restored picture looks like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from supir_core.caption_model import GREEDY, PUBLISHED, CaptionSettings
from supir_core.errors import InputError, PresetError
from supir_core.models import DEMO_MODEL
from supir_core.strict import OFF, did_you_mean, from_text, parse_table, within

SECTION = "caption."
SIDECAR, EMBEDDED, COLUMN, DESCRIBE = "sidecar", "embedded", "column", "describe"
VLM, ENDPOINT, NONE = "vlm", "endpoint", "none"
SOURCES = (SIDECAR, EMBEDDED, COLUMN, VLM, ENDPOINT, DESCRIBE, NONE)
FOUND = f"{SIDECAR},{EMBEDDED},{COLUMN}"  # what people have written


@dataclass(frozen=True)
class Captioning:
    """Where captions come from, and what writes them where nobody has."""

    source: str = FOUND  # by commas, tried in this order: see SOURCES
    prefix: str = ""  # of captions inside the photo's file
    input: Literal["stage1", "photo"] = "stage1"  # what is looked at: the photo's stage 1, or the photo
    per_tile: bool = False  # also a caption for each window of the preset's tiles
    mode: Literal["auto", "before", "stream"] = "auto"  # all captions of a round first, or while photos are restored
    model: str = ""  # vlm: a directory, or a name in the local cache of Hugging Face
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    quantization: Literal["none", "float8"] = "none"
    question: str = ""  # empty: the published one, or the task prompt of models that know no questions
    sampling: Literal["greedy", "published"] = "greedy"
    seed: int = within(0, 2**63 - 1, default=1234)
    max_tokens: int = within(1, 4096, default=128)
    time_limit_s: float = within(0.001, 86400, default=120.0)  # vlm: of a batch; endpoint: of a request
    batch: int = within(1, 1024, default=8)  # vlm: pictures at once
    workers: int | None = within(1, 10**6, default=None)  # vlm: off means one, or with mode before one per GPU share
    gpus: float | None = within(0, 1024, default=None)  # share of a GPU per caption worker; off: 1 where there are any
    endpoint: str = ""  # the URL of an OpenAI-compatible API
    endpoint_model: str = ""  # the server's name of the model
    endpoint_key: str = ""  # the NAME of the environment variable with the API key
    requests: int = within(1, 1024, default=4)  # endpoint: at once
    give_up_after: int = within(1, 10**6, default=5)  # endpoint: failures in a row after which it is left alone

    @property
    def sources(self) -> list[str]:
        """In the order in which they are tried."""
        return [source.strip() for source in self.source.split(",")]

    @property
    def looks(self) -> bool:
        """Whether a model may look at pictures."""
        return VLM in self.sources or ENDPOINT in self.sources

    @property
    def calls_at_once(self) -> int:
        """Photos in one worker's hands: the next ones are fetched while a model looks at a batch."""
        calls = [2 * self.batch] if VLM in self.sources else []
        return max([4, *calls, *([self.requests + 2] if ENDPOINT in self.sources else [])])

    @property
    def settings(self) -> CaptionSettings:
        """What a model is asked."""
        return CaptionSettings(
            question=self.question or None,
            max_new_tokens=self.max_tokens,
            time_limit_s=self.time_limit_s,
            sampling=PUBLISHED if self.sampling == "published" else GREEDY,
            seed=self.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as after `--set`; `parse` reads them back."""
        return {key: OFF if value is None else value for key, value in asdict(self).items()}


def parse(values: dict[str, Any]) -> Captioning:
    """Captioning from plain values; what is not given is as usual.

    Raises:
        InputError: an unknown key, a value that does not fit, or a source without what it needs (`caption-setting`).
    """
    try:
        captioning: Captioning = parse_table(Captioning, {**Captioning().to_dict(), **values}, SECTION)
    except PresetError as error:
        hint = f"there are {', '.join(keys())}" if "unknown key" in str(error) else error.hint
        raise InputError(str(error), hint=hint, code="caption-setting") from error
    _validate(captioning)
    return captioning


def from_settings(settings: Sequence[str], model: str) -> Captioning:
    """Captioning from `caption.key=value` settings; others are passed over.

    A captioning model or an endpoint is asked for what people have not written, if no source is given; the demo model
    comes with descriptions by rule.

    Raises:
        InputError: as `parse`.
    """
    values: dict[str, Any] = {}
    for setting in filter(is_caption, settings):
        key, _, raw = setting.partition("=")
        key, value = key.strip().removeprefix(SECTION), from_text(raw.strip())
        is_text, quoted = isinstance(getattr(Captioning(), key, None), str), raw.strip().startswith(("'", '"'))
        values[key] = raw.lstrip() if is_text and not quoted else value
    if values.get("model") and Path(values["model"]).expanduser().is_dir():
        values["model"] = str(Path(values["model"]).expanduser().resolve())  # workers work in other directories
    if "source" not in values:
        written = [name for name, key in ((VLM, "model"), (ENDPOINT, "endpoint")) if values.get(key)]
        written += [DESCRIBE] if model == DEMO_MODEL and not written else []
        values["source"] = ",".join([FOUND, *written])
    return parse(values)


def is_caption(setting: str) -> bool:
    """Whether a `--set` is about captions, not about the preset."""
    return setting.strip().startswith(SECTION)


def keys() -> list[str]:
    """All keys, as `--set` takes them."""
    return [SECTION + field.name for field in fields(Captioning)]


def _validate(captioning: Captioning) -> None:
    sources = captioning.sources
    wrong = [source for source in sources if source not in SOURCES]
    what = ""
    if wrong:
        what = f"there is no {wrong[0]!r}{did_you_mean(wrong[0], SOURCES)}" if wrong[0] else "a source is empty"
    elif len(set(sources)) < len(sources):
        what = f"{captioning.source!r} names a source twice"
    elif NONE in sources[:-1]:
        what = f"in {captioning.source!r} nothing behind {NONE} is ever asked"
    if what:
        raise InputError(f"caption.source: {what}", hint=f"by commas, of {', '.join(SOURCES)}", code="caption-setting")
    if captioning.per_tile and not captioning.looks:
        raise InputError(
            "caption.per_tile needs somebody who looks at the tiles",
            hint="--set caption.model=DIRECTORY, or --set caption.endpoint=URL",
            code="caption-setting",
        )
    needs = {VLM: ("model",), ENDPOINT: ("endpoint", "endpoint_model")}
    for source, wanted in needs.items():
        idle = [name for name in wanted if getattr(captioning, name)]
        if idle and source not in captioning.sources:
            raise InputError(
                f"caption.{idle[0]} is given, but nothing asks it: caption.source is {captioning.source}",
                hint=f"--set caption.source={captioning.source},{source}",
                code="caption-setting",
            )
        lacking = [name for name in wanted if not getattr(captioning, name)]
        if source in captioning.sources and lacking:
            raise InputError(
                f"caption.source={source} needs caption.{lacking[0]}",
                hint=f"--set caption.{lacking[0]}=...",
                code="caption-setting",
            )
