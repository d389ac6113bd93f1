"""An endless stream of training batches; batch n depends on the plan and on n alone, so a run resumes anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training import captions
from training.degrade import HEAVY, TRAINING, Recipe, degrade
from training.pictures import Picture, draw

MARGIN_PX = 16  # around a crop while it is damaged, so that kernels see what lies beyond its border


class Batch(NamedTuple):
    """Training examples; a negative one has damaged pixels in both tensors and the negative prompt as its caption."""

    clean: Tensor  # (B, 3, s, s) float32 in [-1, 1]: what the networks should give
    degraded: Tensor  # (B, 3, s, s) float32 in [-1, 1]: what they see
    captions: list[str]  # B


@dataclass(frozen=True)
class Plan:
    """What the batches of a run hold."""

    seed: int
    batch: int
    crop_px: int
    crops_per_picture: int = 8
    picture_px: int = 256
    recipe: Recipe = TRAINING
    negative_share: float = 0.05
    untouched_share: float = 0.03  # a good photo is to be left as it is

    def __post_init__(self) -> None:
        if self.crop_px > self.picture_px:
            raise ValueError(f"crops of {self.crop_px} pixels do not fit into pictures of {self.picture_px}")


class Crops(IterableDataset[Batch]):
    """The batches from step `start` on; workers take turns, so their order does not depend on how many there are."""

    def __init__(self, plan: Plan, start: int = 0) -> None:
        self.plan, self.start = plan, start

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        step, stride = (self.start, 1) if worker is None else (self.start + worker.id, worker.num_workers)
        while True:
            yield build_batch(self.plan, step)
            step += stride


def build_stream(plan: Plan, start: int = 0, workers: int = 0) -> DataLoader[Batch]:
    """The batches of steps start, start + 1, ..., made by worker processes (0: by this one)."""
    return DataLoader(
        Crops(plan, start),
        batch_size=None,  # the dataset gives whole batches
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
    )


def _as_it_is(batch: Batch) -> Batch:
    return batch


def build_batch(plan: Plan, step: int) -> Batch:
    """The batch of a step."""
    rng = np.random.Generator(np.random.PCG64([plan.seed, step]))
    clean, degraded, said = [], [], []
    picture: Picture | None = None
    for i in range(plan.batch):
        if i % plan.crops_per_picture == 0:
            picture = draw([plan.seed, step, i + 1], plan.picture_px)  # NumPy takes [a, b, 0] for [a, b]
        assert picture is not None
        target, seen, caption = _example(picture, rng, plan)
        clean.append(target)
        degraded.append(seen)
        said.append(caption)
    return Batch(_to_tensor(clean), _to_tensor(degraded), said)


def _example(picture: Picture, rng: np.random.Generator, plan: Plan) -> tuple[np.ndarray, np.ndarray, str]:
    """Clean and degraded crop, (s, s, 3) uint8, and the caption."""
    side, size = plan.picture_px, plan.crop_px
    top, left = (int(v) for v in rng.integers(0, side - size + 1, 2))
    above, before = max(0, top - MARGIN_PX), max(0, left - MARGIN_PX)
    window = picture.pixels[above : top + size + MARGIN_PX, before : left + size + MARGIN_PX]
    # half of them stay upright, as photos mostly are; turned before they are damaged, as scratches have a direction
    turns, mirrored = int(rng.choice([0, 0, 0, 1, 2, 3])), rng.random() < 0.5
    inside = np.zeros(window.shape[:2], bool)
    inside[top - above : top - above + size, left - before : left - before + size] = True
    window, inside = (_turned(array, turns, mirrored) for array in (window, inside))
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    crop = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    kind = rng.random()
    if kind < plan.negative_share:
        bad = degrade(window, rng, HEAVY).pixels[crop]
        return bad, bad, captions.for_degraded()
    caption = captions.for_clean(picture.caption, rng)
    if kind < plan.negative_share + plan.untouched_share:
        return window[crop], window[crop], caption
    return window[crop], degrade(window, rng, plan.recipe).pixels[crop], caption


def _turned(array: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    turned = np.rot90(array, turns)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _to_tensor(crops: Sequence[np.ndarray]) -> Tensor:
    """(s, s, 3) uint8 each -> (B, 3, s, s) float32 in [-1, 1]."""
    return torch.from_numpy(np.stack(crops).astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
