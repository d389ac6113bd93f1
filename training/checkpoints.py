"""One file per stage: weights, averaged weights, optimizer and how far it got; written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

State = dict[str, dict[str, Tensor]]
"""State dicts by the name of a stage's part."""


def write_atomically(path: Path, content: Any) -> None:
    """`torch.save`, and a rename once all of it is on the disk."""
    work = path.with_name(f".{path.name}.part")
    with work.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    work.replace(path)


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """What `write_atomically` wrote; None if there is nothing."""
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


class Earlier(NamedTuple):
    """What a stage had been trained before it was trained again."""

    steps: int = 0
    seconds: float = 0.0


def once_more(finished: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint of a finished stage as one to go on from, with averaged weights and a time of its own."""
    earlier = Earlier(finished["step"], finished["earlier"][1] + finished["spent_s"])
    changed = {"weights": finished["average"], "spent_s": 0.0, "finished": False, "earlier": tuple(earlier)}
    return {**finished, **changed}


class Average:
    """An average of the weights over about the last tenth of the steps, however many they are.

    Args:
        parts: a stage's modules; the average starts as what they are.
    """

    RECENT = 17  # the weight of the newest is this over the number of steps (Karras et al. 2024, power-law averages)

    def __init__(self, parts: Mapping[str, nn.Module]):
        self._parts = parts
        self.state: State = {
            name: {key: value.detach().clone() for key, value in module.state_dict().items()}
            for name, module in parts.items()
        }

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after `steps` steps."""
        weight = min(1.0, self.RECENT / (steps + 1))
        for name, module in self._parts.items():
            kept, new = self.state[name], module.state_dict()
            torch._foreach_lerp_(list(kept.values()), [new[key] for key in kept], weight)


def averaged(folder: Path, stage: str, part: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The averaged weights of a part as they are by now.

    Raises:
        FileNotFoundError: the stage has not started.
    """
    saved = read(folder / f"{stage}.pt", device)
    if saved is None:
        raise FileNotFoundError(f"{folder} has no stage {stage} yet")
    return dict(saved["average"][part])
