"""A pretended restorer: enlarges with Pillow instead of networks, and misbehaves where a photo's id asks for it.

Restorers know a photo by its content; this one looks up the ids in the run's input when it is loaded.

It is passed to `flow.run(..., load=Pretend(...))`; everything around it is real.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.manifest import read_manifest
from pipeline.photos.decode import to_8_bits
from pipeline.settings import RunSettings
from pipeline.storage import split_uri
from supir_core.errors import StorageError, WeightsError
from supir_core.restorer import Photo, Restored, plan_photo

POISON = "poison"  # a photo with this in its id kills its worker
FAULT = "fault"  # raises
HUNGER = "hunger"  # runs out of memory
MOURNING = "black"  # comes out as not-a-number
SLEEP = "sleepy"  # never ends


@dataclass(frozen=True)
class Pretend:
    """Loads pretended restorers.

    Args:
        journal: a file that gets a line per batch: the worker's pid, then the ids. Ids here have no spaces.
        seconds: that a batch takes.
        company: a batch ends only when this many workers have begun one; for tests that need several at work.
        broken: loading fails.
        loading_s: how long that takes.
        names: a JSON file with the photos' ids by the sha256 of their files; else the input is read.
        shade: makes pictures darker, so that two runs give different ones.
    """

    journal: Path | None = None
    seconds: float = 0.0
    company: int = 1
    broken: bool = False
    loading_s: float = 0.0
    names: str | None = None
    shade: int = 0

    def __call__(self, settings: RunSettings) -> PretendRestorer:
        if self.broken:
            raise WeightsError("unet.safetensors is damaged", hint="fetch it again", code="weights-damaged")
        time.sleep(self.loading_s)
        known = json.loads(Path(self.names).read_text(encoding="utf-8")) if self.names else _ids(settings.input)
        return PretendRestorer(self, known)

    def batches(self) -> list[tuple[int, list[str]]]:
        """What the journal holds: pid and ids of every batch that was begun."""
        if self.journal is None or not self.journal.exists():
            return []
        lines = [line.split() for line in self.journal.read_text(encoding="utf-8").splitlines()]
        return [(int(pid), ids) for pid, *ids in lines]

    def begun(self) -> Counter[str]:
        """How often each photo was begun."""
        return Counter(photo_id for _, ids in self.batches() for photo_id in ids)


class PretendRestorer:
    """Pillow's bicubic in place of the networks."""

    def __init__(self, orders: Pretend, ids: dict[str, str]):
        self._orders, self._ids = orders, ids

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        ids = [self._ids[photo.key] for photo in photos]
        if self._orders.journal is not None:
            with self._orders.journal.open("a", encoding="utf-8") as journal:
                journal.write(f"{os.getpid()} {' '.join(ids)}\n")
        time.sleep(self._orders.seconds)
        deadline = time.monotonic() + 120
        while self._orders.company > 1 and time.monotonic() < deadline:
            if len({pid for pid, _ in self._orders.batches()}) >= self._orders.company:
                break
            time.sleep(0.1)
        if any(SLEEP in photo_id for photo_id in ids):
            time.sleep(10**6)
        if any(POISON in photo_id for photo_id in ids):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(FAULT in photo_id for photo_id in ids):
            raise RuntimeError("this restorer has a fault")
        if any(HUNGER in photo_id for photo_id in ids):
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return [
            Restored((enlarged(photo) - self._orders.shade / 255) * (torch.nan if MOURNING in name else 1), [])
            for name, photo in zip(ids, photos, strict=True)
        ]


def _ids(source: str) -> dict[str, str]:
    """The photos of a run by the sha256 of their files; of equal files the first."""
    ids: dict[str, str] = {}
    for photo in read_manifest(source).photos.read().to_pylist():
        with suppress(StorageError):
            store, name = split_uri(photo["uri"])
            ids.setdefault(hashlib.sha256(store.read(name)).hexdigest(), photo["photo_id"])
    return ids


def enlarged(photo: Photo) -> Tensor:
    """(1, 3, height, width) in [-1, 1]."""
    size = plan_photo(photo)
    image = Image.fromarray(to_8_bits(photo.pixels)).resize((size.width, size.height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
