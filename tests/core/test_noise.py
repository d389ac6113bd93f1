from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supir_core.noise import photo_noise

SHAPE = (1, 4, 8, 8)
DRAWS = ["posterior", "start", "step-0", "step-1", "step-11"]


@given(st.permutations(DRAWS))
def test_draws_do_not_depend_on_their_order(order: list[str]) -> None:
    noise = photo_noise("attic/box 3/001.jpg", 7)
    found = {name: noise(name, SHAPE) for name in order}
    assert all(torch.equal(found[name], photo_noise("attic/box 3/001.jpg", 7)(name, SHAPE)) for name in DRAWS)


def test_a_draw_left_out_does_not_change_the_others() -> None:
    every, some = photo_noise("a", 1), photo_noise("a", 1)
    every("posterior", SHAPE)
    assert torch.equal(every("start", SHAPE), some("start", SHAPE))


def test_every_photo_seed_and_draw_has_noise_of_its_own() -> None:
    draws = [photo_noise(photo, seed)(name, SHAPE) for photo in ("a", "b") for seed in (1, 2) for name in DRAWS]
    assert len({draw.numpy().tobytes() for draw in draws}) == 2 * 2 * len(DRAWS)


def test_id_and_seed_are_kept_apart() -> None:
    assert not torch.equal(photo_noise("a1", 2)("start", SHAPE), photo_noise("a", 12)("start", SHAPE))


def test_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = photo_noise("a", 1)("start", SHAPE)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(photo_noise("a", 1)("start", SHAPE), first)


def test_noise_is_standard_normal_float32() -> None:
    draw = photo_noise("a", 1)("start", (1, 4, 128, 128))
    assert draw.dtype == torch.float32
    assert draw.shape == (1, 4, 128, 128)
    assert draw.mean().item() == pytest.approx(0, abs=0.02)
    assert draw.std().item() == pytest.approx(1, abs=0.02)


def test_noise_is_the_same_in_every_version() -> None:
    # Pictures of an archive are restored over years: a change here changes every one of them.
    draw = photo_noise("photo-1", 1234)("start", SHAPE).flatten()
    assert draw[:4].tolist() == pytest.approx([-0.2199814, 0.3763085, -0.8583637, 0.3081470], abs=1e-6)
