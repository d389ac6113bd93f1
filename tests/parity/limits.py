"""How far a result may lie from the golden one, and in which unit: section 4 of the golden data's README.

Other processors may need up to three times these limits (`--slack 3`). Looser ones hide real mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Measure = Callable[[Tensor, Tensor], float]
"""(ours, golden) -> error; NaN anywhere gives NaN, which no limit admits."""


@dataclass(frozen=True)
class Limit:
    """The largest error that passes."""

    value: float
    measure: Measure
    firm: bool = False  # what must be equal stays so on every processor

    def times(self, slack: float) -> Limit:
        """A limit that admits `slack` times the error."""
        return self if self.firm else Limit(self.value * slack, self.measure)


def of_std(ours: Tensor, golden: Tensor) -> float:
    """Largest difference over the golden tensor's standard deviation (its magnitude where it is constant)."""
    golden = golden.double()
    difference = (ours.double() - golden).abs().max()
    scale = golden.std(correction=0)
    if scale == 0:
        scale = golden.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float(difference / scale)


def of_value(floor: float = 0.0) -> Measure:
    """Largest difference over the golden value itself; values smaller than `floor` count as `floor`."""

    def measure(ours: Tensor, golden: Tensor) -> float:
        golden = golden.double()
        difference = (ours.double() - golden).abs()
        relative = difference / golden.abs().clamp_min(floor)
        return float(torch.where(difference == 0, difference, relative).max())

    return measure


def differing(ours: Tensor, golden: Tensor) -> float:
    """How many values differ."""
    return float((ours.long() != golden.long()).sum())


def off_by_one(ours: Tensor, golden: Tensor) -> float:
    """The share of 8-bit values that are one off; infinite if any is further off."""
    difference = (ours.long() - golden.long()).abs()
    return math.inf if difference.max() > 1 else float((difference > 0).double().mean())


EXACT = Limit(0, differing, firm=True)
SIGMAS = Limit(1e-6, of_value())
PIXELS = Limit(1e-3, off_by_one, firm=True)
PICTURES = Limit(1e-6, of_std)
COLOR = Limit(5e-6, of_std)
TEXT = Limit(1e-5, of_std)
TEXT_FULL = Limit(5e-5, of_std)
VAE = Limit(4e-5, of_std)
DECODE_CHAIN = Limit(1e-4, of_std)  # an encoder's result, decoded
TILED_VAE = Limit(6e-5, of_std)
NETWORKS = Limit(3e-5, of_std)
INTERMEDIATE = Limit(6e-5, of_std)
SAMPLERS = Limit(1e-4, of_std)
END_TO_END = Limit(4e-4, of_std)


def guidance_scales(start: float, end: float) -> Limit:
    """1e-6 of the value, or of a third of the larger end: where a scale crosses 0, its float32 terms cancel."""
    return Limit(1e-6, of_value(floor=max(abs(start), abs(end)) / 3))
