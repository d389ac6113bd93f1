"""Pictures drawn before training: clean, damaged and badly damaged versions in memory, and random crops of them.

Drawing takes far longer than a training step, so each picture is drawn once and used many times. The files lie in the
training folder, in parts that are written whole or not at all: drawing goes on where it stopped.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.degrade import HEAVY, TRAINING, degrade
from training.pictures import draw
from training.recipe import Recipe

PART = 50  # pictures per file


class Bank(NamedTuple):
    """N pictures of S pixels."""

    clean: Tensor  # (N, S, S, 3) uint8
    damaged: Tensor  # (versions, N, S, S, 3) uint8
    heavy: Tensor  # (N, S, S, 3) uint8: what the negative prompt describes
    captions: list[str]  # of the clean ones


def load_bank(folder: Path, recipe: Recipe, device: torch.device, say: Callable[[str], None]) -> Bank:
    """The pictures of a recipe, drawn by all processors if they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"pictures-{first:06d}.npz" for first in range(0, recipe.pictures, PART)]
    missing = [i for i, part in enumerate(parts) if not part.exists()]
    if missing:
        say(f"drawing {len(missing) * PART} pictures")
        make = functools.partial(_make_part, folder, recipe)
        with multiprocessing.get_context("spawn").Pool(min(len(missing), os.cpu_count() or 1)) as pool:
            for done, _ in enumerate(pool.imap_unordered(make, missing), 1):
                if done % 10 == 0:
                    say(f"drew {done * PART} of {len(missing) * PART} pictures")
    loaded = [np.load(part) for part in parts]
    captions = [str(caption) for part in loaded for caption in json.loads(str(part["captions"]))]

    def together(name: str, axis: int = 0) -> Tensor:
        return torch.from_numpy(np.concatenate([part[name] for part in loaded], axis=axis)).to(device)

    return Bank(together("clean"), together("damaged", 1), together("heavy"), captions)


def _make_part(folder: Path, recipe: Recipe, part: int) -> None:
    torch.set_num_threads(1)
    first = part * PART
    clean, damaged, heavy, captions = [], [], [], []
    for index in range(first, min(first + PART, recipe.pictures)):
        picture = draw([recipe.seed, index], recipe.picture_px)
        rng = np.random.Generator(np.random.PCG64([recipe.seed, index, 1]))
        clean.append(picture.pixels)
        damaged.append([degrade(picture.pixels, rng, TRAINING).pixels for _ in range(recipe.versions)])
        heavy.append(degrade(picture.pixels, rng, HEAVY).pixels)
        captions.append(picture.caption)
    file = folder / f"pictures-{first:06d}.npz"
    work = file.with_suffix(".part")
    with work.open("wb") as stream:
        np.savez(
            stream,
            clean=np.stack(clean),
            damaged=np.swapaxes(np.stack(damaged), 0, 1),
            heavy=np.stack(heavy),
            captions=np.array(json.dumps(captions)),
        )
    work.replace(file)


def step_rng(seed: int, stage: str, step: int) -> np.random.Generator:
    """The random numbers of one step, whatever ran before it."""
    return np.random.Generator(np.random.PCG64([seed, sum(stage.encode()), step]))


class Places(NamedTuple):
    """Where the crops of a batch lie; (B,) int64 each."""

    picture: Tensor
    version: Tensor
    top: Tensor
    left: Tensor

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, shape: tuple[int, int, int], crop: int) -> Places:
        """Random crops.

        Args:
            rng: of the step.
            count: of crops.
            shape: pictures, their side, versions.
            crop: side.
        """
        pictures, side, versions = shape
        highs = (pictures, versions, side - crop + 1, side - crop + 1)
        return cls(*(torch.from_numpy(rng.integers(0, high, count)) for high in highs))

    def cut(self, field: Tensor, crop: int) -> Tensor:
        """(N, S, S, C) -> (B, crop, crop, C); with versions in front, each crop's own."""
        reach = torch.arange(crop)
        rows = (self.top[:, None] + reach)[:, :, None].to(field.device)
        columns = (self.left[:, None] + reach)[:, None, :].to(field.device)
        picture = self.picture[:, None, None].to(field.device)
        if field.ndim == 5:
            return field[self.version[:, None, None].to(field.device), picture, rows, columns]
        return field[picture, rows, columns]


def to_pixels(crops: Tensor) -> Tensor:
    """(B, s, s, 3) uint8 -> (B, 3, s, s) float32 in [-1, 1], channels last."""
    return (crops.float() / 127.5 - 1).permute(0, 3, 1, 2)
