"""Where a run reads and writes, and on how many machines. What the pictures look like is the preset's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

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
    preset: Preset
    captioning: Captioning
    model: str  # a model directory or `demo`
    model_digest: str
    format: str
    limit: int | None  # restore at most this many photos
    only: str | None  # a text file with the ids of the photos to look at, one per line
    shard: str | None  # `i/n`: only every n-th photo or so, by the hash of its id
    retry_failed: bool  # also what failed in an earlier run
    retry_captions: bool  # also what lost its caption to an outage in an earlier run
    redo: bool  # also what an earlier run has restored
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            **asdict(self),
            "preset": self.preset.to_dict(),
            "preset_digest": self.preset.digest,
            "captioning": self.captioning.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunSettings:
        """The settings that `to_dict` wrote."""
        known = {key: value for key, value in values.items() if key != "preset_digest"}
        look, words = presets.parse(values["preset"]), captioning.parse(values["captioning"])
        return cls(**{**known, "preset": look, "captioning": words, "allow_uris": tuple(values["allow_uris"])})

    def save(self, store: Store, **more: Any) -> None:
        """Write `runs/<run>/run.json`, with more facts if given."""
        text = json.dumps({**self.to_dict(), **more}, indent=2, ensure_ascii=False)
        store.write(f"runs/{self.run}/run.json", text.encode())


def parse_shard(shard: str | None) -> tuple[int, int]:
    """Which of how many: (2, 4) for `2/4`; (1, 1) if there is none.

    Raises:
        InputError: it is not of this form (`shard`).
    """
    number, _, shards = (shard or "1/1").partition("/")
    if not (number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards)):
        raise InputError(f"there is no shard {shard}", hint="--shard 2/4 is the second of four", code="shard")
    return int(number), int(shards)
