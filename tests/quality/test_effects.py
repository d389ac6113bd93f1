"""Settings have the effects that they are said to have, on real photos restored by the demo model."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest

from supir_core import image
from supir_core.models import DEMO_FOLDER, DEMO_MODEL, read_dims
from supir_core.networks.dims import DEMO
from supir_core.presets import Preset, load_preset
from supir_core.restorer import Photo, Restorer
from tests.quality import looks
from tests.quality.measures import psnr, sharpness, ssim
from training.evaluation import Damaged

NAMES = ("astronaut", "chelsea", "china", "hopper")
KINDS = ("x4", "noise-jpeg")
PART = slice(32, 160)  # of both sides: 128 pixels are enough to see an effect


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load(DEMO_MODEL, device="cpu", dtype="float32")


@functools.cache
def cases() -> list[tuple[str, np.ndarray, Damaged]]:
    """Key, original, damaged."""
    originals = {name: looks.read_photos()[name][PART, PART] for name in NAMES}
    return [
        (f"{name} {kind}", original, looks.damaged_photos(original)[kind])
        for name, original in originals.items()
        for kind in KINDS
    ]


def restored(restorer: Restorer, preset: Preset) -> list[np.ndarray]:
    """All cases in a look."""
    photos = [Photo(key, damaged.pixels, looks.at_size_of(preset, damaged)) for key, _, damaged in cases()]
    return [image.to_uint8(result.image) for result in restorer.restore(photos)]


def means(pictures: list[np.ndarray]) -> tuple[float, float]:
    """PSNR and sharpness."""
    pairs = [(picture, original) for picture, (_, original, _) in zip(pictures, cases(), strict=True)]
    return float(np.mean([psnr(*pair) for pair in pairs])), float(np.mean([sharpness(*pair) for pair in pairs]))


@pytest.fixture(scope="module")
def by_look(restorer: Restorer) -> dict[str, tuple[float, float]]:
    return {name: means(restored(restorer, preset)) for name, preset in looks.looks().items()}


def test_stage_1_is_better_than_the_damaged_photo(restorer: Restorer) -> None:
    before = means([looks.bicubic(damaged) for _, _, damaged in cases()])
    after = means([looks.stage1(restorer, damaged) for _, _, damaged in cases()])
    assert after[0] > before[0] + 0.5


def test_a_larger_tau_r_is_a_weaker_pull(by_look: dict[str, tuple[float, float]]) -> None:
    taus = [figures for name, figures in by_look.items() if name.startswith("tau_r")]
    assert [fidelity for fidelity, _ in taus] == sorted((fidelity for fidelity, _ in taus), reverse=True)
    assert taus[-1][1] > taus[0][1] + 0.01  # in between, this model's sharpness is nearly even


def test_the_negative_prompt_sharpens(by_look: dict[str, tuple[float, float]]) -> None:
    assert by_look[looks.NEGATIVE][1] > by_look[looks.EMPTY][1] + 0.01


def test_windows_change_little(restorer: Restorer) -> None:
    preset = load_preset("demo")
    whole = restored(restorer, replace(preset, tile=replace(preset.tile, size_lat=128, stride_lat=96)))
    parts = restored(restorer, replace(preset, tile=replace(preset.tile, size_lat=24, stride_lat=16)))
    assert min(psnr(one, other) for one, other in zip(whole, parts, strict=True)) > 30


def test_bfloat16_changes_little(restorer: Restorer) -> None:
    half = Restorer.load(DEMO_MODEL, device="cpu", dtype="bfloat16")
    preset = load_preset("demo")
    exact, rounded = restored(restorer, preset), restored(half, preset)
    assert min(psnr(one, other) for one, other in zip(exact, rounded, strict=True)) > 35


def test_the_same_photo_gives_the_same_bytes(restorer: Restorer) -> None:
    key, _, damaged = cases()[0]
    photo = Photo(key, damaged.pixels, load_preset("demo"), "a portrait")
    one, other = (restorer.restore([photo])[0].image for _ in range(2))
    assert np.array_equal(one.numpy(), other.numpy())


def test_the_shipped_model_is_small_and_says_where_it_comes_from() -> None:
    assert sum(file.stat().st_size for file in DEMO_FOLDER.iterdir()) <= 25_000_000
    assert read_dims(DEMO_MODEL) == DEMO
    record = json.loads((DEMO_FOLDER / "model.json").read_text(encoding="utf-8"))
    assert all(stage["finished"] for stage in record["trained"]["stages"].values())
    card = (DEMO_FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card


def test_similarity_of_a_picture_with_itself_is_one() -> None:
    _, original, damaged = cases()[0]
    assert ssim(original, original) == pytest.approx(1)
    assert ssim(looks.bicubic(damaged), original) < 0.95
