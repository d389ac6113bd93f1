"""Where a run reads and writes, and on how many machines. What the pictures look like is the preset's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pipeline.captions import captioning
from pipeline.captions.captioning import Captioning
from pipeline.storage import Store
from supir_core import presets
from supir_core.errors import InputError
from supir_core.presets import Preset


@dataclass(frozen=True)
class RunSettings:
    """One run; everything a worker needs to know, and what `<output>/runs/<run>/run.json` says of it."""

    run: str  # names the run; sorts by time
    input: str
    output: str
    presets: tuple[Preset, ...]  # the looks that every photo gets, each once
    captioning: Captioning
    model: str  # a model directory or `demo`
    model_digest: str
    format: str  # a key of encode.FORMATS, or `keep`
    quality: int | None  # of JPEG and WebP; None: the format's own
    accept_damaged: bool  # restore what is there of damaged photos
    restore_all: bool  # also bilevel pages and photos that are larger than their result would be
    skip_if_sharper_than: float | None  # leave photos alone whose sharpness exceeds this
    limit: int | None  # restore at most this many photos
    only: str | None  # a text file with the ids of the photos to look at, one per line
    shard: str | None  # `i/n`: only every n-th photo or so, by the hash of its id
    retry_failed: bool  # also what failed in an earlier run
    retry_captions: bool  # also what lost its caption to an outage in an earlier run
    redo: bool  # also what an earlier run has restored
    latents: Literal["none", "use", "keep"]  # of stage 1: take those that are kept in the output; keep new ones there
    max_megapixels: float  # of what the networks see; larger photos fail with `too-large`
    photo_timeout_s: float | None  # None: an hour on a GPU, twelve on the processor
    address: str | None  # of a Ray cluster; None starts one on this machine
    workers: int | None  # None: one per GPU share, or one CPU worker
    gpus_per_worker: float | None  # None: 1 where there are GPUs, else 0
    photos_per_batch: int  # photos that share the networks' batches
    tile_batch: int  # windows in one call of the networks
    device: str | None
    dtype: str | None
    compiled: bool  # UNet and control branch through torch.compile
    allow_download: bool  # of a captioning model that is not there
    allow_uris: tuple[str, ...]  # prefixes of what a list may name; none: see `pipeline/sources.py`
    log_format: str  # text or json

    @property
    def preset(self) -> Preset:
        """The look; of several the first."""
        return self.presets[0]

    @property
    def preset_names(self) -> list[str]:
        """As lists of photos name them."""
        return [preset.name for preset in self.presets]

    def each_look(self) -> list[RunSettings]:
        """The same run with each of its looks alone, as the parts that work on one look take it."""
        return [replace(self, presets=(preset,)) for preset in self.presets]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self),
            "presets": [preset.to_dict() for preset in self.presets],
            "preset_digests": [preset.digest for preset in self.presets],
            "captioning": self.captioning.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunSettings:
        """The settings that `to_dict` wrote."""
        known = {key: value for key, value in values.items() if key != "preset_digests"}
        looks, words = tuple(map(presets.parse, values["presets"])), captioning.parse(values["captioning"])
        return cls(**{**known, "presets": looks, "captioning": words, "allow_uris": tuple(values["allow_uris"])})

    def save(self, store: Store, **more: Any) -> None:
        """Write `runs/<run>/run.json`, with more facts if given."""
        text = json.dumps({**self.to_dict(), **more}, indent=2, ensure_ascii=False)
        store.write(f"runs/{self.run}/run.json", text.encode())


def check_together(looks: Sequence[Preset], words: Captioning) -> None:
    """See that looks can share the captions of one run.

    Raises:
        InputError: a model writes captions for what these looks do not have in common (`looks`).
    """
    common: list[tuple[str, Callable[[Preset], Any]]] = [("text.positive", lambda look: look.text.positive)]
    if words.input == "stage1":
        common.append(("stage1.clean", lambda look: look.stage1.clean))
    if words.per_tile:
        common += [("size", lambda look: look.size), ("tile", lambda look: look.tile)]
    for what, of in common if words.looks else []:
        if len({of(look) for look in looks}) > 1:
            raise InputError(
                f"a model's captions depend on {what}, in which these presets differ",
                hint="restore them one after the other: captions are kept in the output",
                code="looks",
            )


def parse_shard(shard: str | None) -> tuple[int, int]:
    """Which of how many: (2, 4) for `2/4`; (1, 1) if there is none.

    Raises:
        InputError: it is not of this form (`shard`).
    """
    number, _, shards = (shard or "1/1").partition("/")
    if not (number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards)):
        raise InputError(f"there is no shard {shard}", hint="--shard 2/4 is the second of four", code="shard")
    return int(number), int(shards)
