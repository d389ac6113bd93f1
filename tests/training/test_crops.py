from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch

from training import captions
from training.crops import Batch, Plan, build_batch, build_stream

PLAN = Plan(seed=3, batch=6, crop_px=32, crops_per_picture=3, picture_px=64)


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.clean, b.clean) and torch.equal(a.degraded, b.degraded) and a.captions == b.captions


def test_batches_have_the_shapes_and_range_of_the_networks() -> None:
    batch = build_batch(PLAN, 0)
    for pixels in (batch.clean, batch.degraded):
        assert pixels.shape == (6, 3, 32, 32)
        assert pixels.dtype == torch.float32
        assert pixels.is_contiguous()
        assert -1 <= pixels.min() < pixels.max() <= 1
    assert len(batch.captions) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_resumes_at_any_step(workers: int) -> None:
    resumed = list(itertools.islice(build_stream(PLAN, start=2, workers=workers), 3))
    assert all(same(batch, build_batch(PLAN, step)) for step, batch in zip((2, 3, 4), resumed, strict=True))


def test_steps_and_seeds_differ() -> None:
    batches = [build_batch(PLAN, 0), build_batch(PLAN, 1), build_batch(replace(PLAN, seed=4), 0)]
    assert not any(same(a, b) for a, b in itertools.combinations(batches, 2))


def test_every_crop_is_its_own() -> None:
    crops = build_batch(PLAN, 0).clean
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(crops, 2))


def test_degraded_crops_are_close_to_their_clean_ones() -> None:
    """So they are the same place of the same picture."""
    plan = replace(PLAN, batch=24, negative_share=0.0)
    batch = build_batch(plan, 0)
    own = (batch.clean - batch.degraded).square().mean((1, 2, 3))
    other = (batch.clean - batch.degraded.roll(1, 0)).square().mean((1, 2, 3))
    assert (own < other).float().mean() > 0.9
    assert own.mean() > 0


def test_negative_examples_show_damage_under_the_negative_prompt() -> None:
    batch = build_batch(replace(PLAN, negative_share=1.0), 0)
    assert torch.equal(batch.clean, batch.degraded)
    assert set(batch.captions) == {captions.for_degraded()}


def test_untouched_examples_are_clean() -> None:
    batch = build_batch(replace(PLAN, negative_share=0.0, untouched_share=1.0), 0)
    assert torch.equal(batch.clean, batch.degraded)
    assert captions.for_degraded() not in batch.captions


def test_a_crop_may_be_the_whole_picture() -> None:
    assert build_batch(replace(PLAN, crop_px=64), 0).clean.shape == (6, 3, 64, 64)
    with pytest.raises(ValueError, match="do not fit"):
        Plan(seed=0, batch=1, crop_px=65, picture_px=64)
