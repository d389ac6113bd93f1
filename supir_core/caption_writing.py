"""The answers to a batch of pictures, token by token: which token comes next, and when an answer ends.

Every photo draws from a generator of its own, so its answer depends neither on its company in a batch nor on the order
nor on how often it is tried. (Up to rounding, which may differ in calls of different sizes, on GPUs above all: batches
of one exclude that.)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from supir_core.caption_model import Sampling


class Writing:
    """The answers to a batch while they are written: what transformers' `generate` asks after every step.

    Args:
        seeds: one per row, as `row_seed` gives them.
        sampling: how tokens are chosen.
        end_tokens: ids that end an answer.
        deadline_s: by `time.monotonic`; then all answers end as they are.
    """

    def __init__(self, seeds: Sequence[int], sampling: Sampling, end_tokens: Collection[int], deadline_s: float):
        self.tokens: list[list[int]] = [[] for _ in seeds]
        self.ended = [False] * len(seeds)
        self.timed_out = False
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._sampling = sampling
        self._end_tokens = frozenset(end_tokens)
        self._deadline_s = deadline_s

    def choose(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """A processor of scores (B, vocabulary): the chosen token's becomes 0, all others' minus infinity."""
        chosen = scores.argmax(-1) if self._sampling.temperature == 0 else self._draw(scores)  # (B,)
        for row, token in enumerate(chosen.tolist()):
            if self.ended[row]:
                continue
            if token in self._end_tokens:
                self.ended[row] = True
            else:
                self.tokens[row].append(token)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0)

    def stop(self, input_ids: Tensor, scores: object, **_: Any) -> Tensor:
        """A criterion: (B,) bool, which answers have come to their end."""
        self.timed_out = self.timed_out or (not all(self.ended) and time.monotonic() > self._deadline_s)
        return torch.tensor([ended or self.timed_out for ended in self.ended], device=input_ids.device)

    def _draw(self, scores: Tensor) -> Tensor:
        """(B,) tokens: nucleus sampling, by each row's own random number."""
        probabilities, tokens = (
            (scores.float() / self._sampling.temperature).softmax(-1).sort(stable=True, descending=True)
        )
        total = probabilities.cumsum(-1)
        kept = total - probabilities < self._sampling.top_p  # always the likeliest one
        randoms = torch.stack([torch.rand(1, generator=generator) for generator in self._generators])  # (B, 1)
        mass = (probabilities * kept).sum(-1, keepdim=True)
        index = torch.searchsorted(total, randoms.to(total) * mass, right=True)
        return tokens.gather(1, index.minimum(kept.sum(-1, keepdim=True) - 1))[:, 0]


def row_seed(key: str, seed: int, attempt: int) -> int:
    """The seed of one photo's generator, for its first or second attempt."""
    digest = hashlib.sha256(f"{key}\0{seed}\0caption-{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)
