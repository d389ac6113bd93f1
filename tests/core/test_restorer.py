"""The whole path with the demo model: what a result may depend on, and what it may not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from supir_core.color import guided
from supir_core.errors import InputError, PhotoError
from supir_core.image import to_tensor, to_uint8
from supir_core.networks.unet import UNet
from supir_core.noise import Noise, photo_noise
from supir_core.presets import Preset, derive, load_preset
from supir_core.restorer import Job, Photo, Restorer

SMALL = ("size.min_size_px=64", "size.upscale=1", "sampling.num_steps=2", "tile.size_lat=16", "tile.stride_lat=8")


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load("demo", device="cpu")


def look(*settings: str) -> Preset:
    return load_preset("demo", [*SMALL, *settings])


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth colour picture."""
    coarse = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth[0] * 255).byte().permute(1, 2, 0).numpy()


A = Photo("a", scene(64, 100, 1), look("sampling.churn=5", "sampling.num_steps=3"), "a street")
B = Photo("b", scene(90, 70, 2), look("tile.size_lat=32", "color.fix=adain"))
C = Photo("c", scene(64, 64, 3), look("pull.tau_r=off", "guidance.end=7"), "a face")


# Company


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_company_moves_no_pixel_by_more_than_one_level(batch: int, restorer: Restorer) -> None:
    shared = Restorer(restorer.networks, batch=batch)
    together = images(shared, C, A, B)
    alone = [images(restorer, photo)[0] for photo in (C, A, B)]
    for one, other in zip(alone, together, strict=True):
        assert levels_apart(one, other) <= 1


def test_company_changes_no_bit_of_a_photos_noise(restorer: Restorer) -> None:
    def drawn(photos: Sequence[Photo]) -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        jobs = [job(photo, recorded(photo, seen)) for photo in photos]
        restorer.run(jobs)
        return {name: noise for name, noise in seen.items() if name.startswith("a ")}

    alone, together = drawn([A]), drawn([C, B, A])
    assert sorted(alone) == ["a posterior", "a start", "a step-0", "a step-1", "a step-2"]
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[name], together[name]) for name in alone)


def test_a_photo_restored_twice_is_the_same_bit_for_bit(restorer: Restorer) -> None:
    assert torch.equal(images(restorer, A)[0], images(restorer, A)[0])


def test_global_random_state_does_not_matter(restorer: Restorer) -> None:
    torch.manual_seed(1)
    [first] = images(restorer, A)
    torch.manual_seed(2)
    assert torch.equal(images(restorer, A)[0], first)


# What a result does depend on


@pytest.mark.parametrize(
    "change",
    [
        {"key": "another"},
        {"caption": "a boat"},
        {"pixels": 255 - A.pixels},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_result_depends_on_the_photo_its_key_and_its_caption(change: dict[str, Any], restorer: Restorer) -> None:
    assert levels_apart(images(restorer, A)[0], images(restorer, dataclasses.replace(A, **change))[0]) > 1


@pytest.mark.parametrize(
    "setting",
    [
        "sampling.seed=2",
        "sampling.num_steps=4",
        "sampling.churn=0",
        "sampling.s_noise=0.5",
        "guidance.start=3",
        "guidance.end=7",
        "pull.tau_r=4",
        "pull.tau_r=off",
        "control.start=0.2",
        "control.end=0.2",
        "text.positive=old",
        "text.negative=new",
        "tile.size_lat=24",
        "tile.mode=published",
        "sampling.sampler=dpmpp",
        "stage1.clean=none",
        "color.fix=none",
        "color.fix=wavelet",
    ],
)
def test_a_result_depends_on_every_setting_of_its_preset(setting: str, restorer: Restorer) -> None:
    other = dataclasses.replace(A, preset=derive(A.preset, [setting]))
    assert levels_apart(images(restorer, A)[0], images(restorer, other)[0]) > 1


def test_the_colours_can_be_the_photos_own(restorer: Restorer) -> None:
    jobs = [job(Photo("a", scene(64, 64, 1), look(f"color.fix={fix}"))) for fix in ("none", "input")]
    plain, fixed = (restorer.run([one])[0].image for one in jobs)
    torch.testing.assert_close(fixed, guided(plain, jobs[1].x_lq), rtol=0, atol=1e-5)


# Sizes and ranges


@pytest.mark.parametrize(
    ("setting", "height", "width"),
    [("size.upscale=1", 50, 70), ("size.upscale=1.5", 75, 105), ("size.short_side_px=40", 40, 56)],
)
def test_a_result_has_the_size_that_its_preset_asks_for(
    setting: str, height: int, width: int, restorer: Restorer
) -> None:
    [result] = images(restorer, Photo("a", scene(50, 70), look(setting)))
    assert result.shape == (1, 3, height, width)


def test_a_result_is_float32_on_the_cpu_and_within_its_range(restorer: Restorer) -> None:
    [result] = images(restorer, A)
    assert result.dtype == torch.float32
    assert result.device.type == "cpu"
    assert result.isfinite().all()
    assert -1 <= result.min() < result.max() <= 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_even_picture_is_restored_too(level: int, restorer: Restorer) -> None:
    [result] = images(restorer, Photo("flat", np.full((64, 64, 3), level, np.uint8), look()))
    assert result.isfinite().all()


def test_grey_pixels_are_restored_too(restorer: Restorer) -> None:
    grey = scene(64, 64).mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    [result] = images(restorer, Photo("grey", grey, look()))
    assert result.isfinite().all()


def test_no_photos_are_no_results(restorer: Restorer) -> None:
    assert restorer.restore([]) == []


def test_the_callers_pixels_stay_as_they_are(restorer: Restorer) -> None:
    before = A.pixels.copy()
    restorer.restore([A])
    assert np.array_equal(A.pixels, before)


# Progress, captions, options


def test_steps_are_counted_until_the_longest_photo_is_done(restorer: Restorer) -> None:
    steps: list[int] = []
    restorer.restore([A, B], steps.append)
    assert steps == [1, 2, 3]


def test_a_caption_for_every_window_is_taken(restorer: Restorer) -> None:
    one = restorer.run([job(A, captions=("a street",))])[0].image
    same = restorer.run([job(A, captions=("a street",) * 3)])[0].image
    local = restorer.run([job(A, captions=("a street", "a tree", "a boat"))])[0].image
    torch.testing.assert_close(same, one, rtol=0, atol=1e-4)
    assert (local - one).abs().max() > 1e-2


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_captions_is_refused(count: int, restorer: Restorer) -> None:
    with pytest.raises(InputError, match=f"{count} captions for 3 windows") as raised:
        restorer.run([job(A, captions=("a street",) * count)])
    assert raised.value.code == "captions"


def test_prompts_that_had_to_be_cut_are_reported(restorer: Restorer) -> None:
    long = " ".join(["word"] * 90)
    assert restorer.restore([A])[0].warnings == []
    assert restorer.restore([dataclasses.replace(A, caption=long)])[0].warnings == ["prompt-truncated"]
    wordy = dataclasses.replace(A, preset=derive(A.preset, [f"text.negative={long}"]))
    assert restorer.restore([wordy])[0].warnings == ["negative-prompt-truncated"]


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(InputError, match="unknown dtype 'float4'") as raised:
        Restorer.load("demo", dtype="float4")
    assert raised.value.code == "dtype"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no CUDA device") as raised:
        Restorer.load("demo", device="cuda")
    assert raised.value.code == "device"


# Precision


def test_bfloat16_stays_close_to_float32(restorer: Restorer) -> None:
    half = Restorer.load("demo", device="cpu", dtype="bfloat16")
    photo = dataclasses.replace(C, preset=derive(C.preset, ["guidance.end=2"]))  # the demo's; 7 makes rounding larger
    [exact], [rounded] = images(restorer, photo), images(half, photo)
    assert rounded.dtype == torch.float32
    psnr = 10 * math.log10(4 / float((exact - rounded).square().mean()))  # the range is 2 wide
    assert psnr > 40  # 49 dB where this was written


# Memory


def test_a_photo_for_which_there_is_no_memory_fails_with_a_hint(restorer: Restorer) -> None:
    class Hungry(UNet):
        """A UNet that finds no memory, whatever it is asked."""

        def forward(self, x: Tensor, *inputs: object) -> Tensor:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    hungry = Restorer(dataclasses.replace(restorer.networks, unet=Hungry(restorer.networks.dims.unet)))
    with pytest.raises(PhotoError, match="20 GiB") as raised:
        hungry.restore([A, B])
    assert raised.value.code == "out-of-memory"
    assert "float8" in raised.value.hint


def images(restorer: Restorer, *photos: Photo) -> list[Tensor]:
    """Photos restored together."""
    return [restored.image for restored in restorer.restore(photos)]


def job(photo: Photo, noise: Noise | None = None, captions: tuple[str, ...] = ("",)) -> Job:
    """A photo whose sides are rounded to what the networks take."""
    height, width = (round(side / 64) * 64 for side in photo.pixels.shape[:2])
    noise = noise or photo_noise(photo.key, photo.preset.sampling.seed)
    return Job(to_tensor(photo.pixels, height, width), captions, photo.preset, noise)


def recorded(photo: Photo, seen: dict[str, Tensor]) -> Noise:
    """A photo's noise that writes down what it gives."""
    noise = photo_noise(photo.key, photo.preset.sampling.seed)

    def draw(name: str, shape: Sequence[int]) -> Tensor:
        return seen.setdefault(f"{photo.key} {name}", noise(name, shape))

    return draw


def levels_apart(one: Tensor, other: Tensor) -> int:
    """The largest difference of two results in 8-bit levels."""
    if one.shape != other.shape:
        return 256
    return int(np.abs(to_uint8(one).astype(int) - to_uint8(other).astype(int)).max())
