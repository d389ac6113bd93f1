"""Brownian noise: normal increments, one path whatever is asked of it."""

from __future__ import annotations

import itertools

import torch

from supir_core.brownian import BrownianPath
from supir_core.noise import photo_noise
from supir_core.schedule import karras_sigmas

SHAPE = (1, 4, 64, 64)


def path(key: str = "a") -> BrownianPath:
    return BrownianPath(photo_noise(key, 1), SHAPE, 0.0, 15.0)


def test_increments_are_standard_normal_and_independent() -> None:
    sigmas = karras_sigmas(20)[:-1].tolist()
    walk = path()
    steps = torch.stack([walk.increment(a, b) for a, b in itertools.pairwise(sigmas)]).flatten(1)
    assert ((steps.std(dim=1) - 1).abs() < 0.03).all()
    assert (steps.mean(dim=1).abs() < 0.03).all()
    assert torch.corrcoef(steps).fill_diagonal_(0).abs().max() < 0.04


def test_two_steps_are_one_long_step() -> None:
    whole = path().increment(9.0, 1.0) * 8**0.5
    parts = path().increment(9.0, 4.0) * 5**0.5 + path().increment(4.0, 1.0) * 3**0.5
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-4)


def test_the_order_of_questions_does_not_matter() -> None:
    one, other = path(), path()
    first = one.increment(9.0, 4.0)
    other.increment(4.0, 1.0)
    assert torch.equal(other.increment(9.0, 4.0), first)


def test_photos_have_paths_of_their_own() -> None:
    assert not torch.equal(path("a").increment(9.0, 4.0), path("b").increment(9.0, 4.0))
