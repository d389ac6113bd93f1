"""Random numbers of one photo: the same alone, in any batch, on any worker, after any retry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Noise = Callable[[str, Sequence[int]], Tensor]
"""(name of the draw, shape) -> standard normal float32 on the CPU. Draws are `posterior`, `start` and `step-<i>`."""


def photo_noise(key: str, seed: int) -> Noise:
    """The noise of one photo, by its key, under one seed.

    Every draw has a generator of its own, seeded from (key, seed, name): leaving one out, as when a stage-1 latent
    is reused, does not change the others.
    """

    def draw(name: str, shape: Sequence[int]) -> Tensor:
        digest = hashlib.sha256(f"{key}\0{seed}\0{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        return torch.randn(tuple(shape), generator=generator)

    return draw
