"""The pictures that captions are made from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from supir_core.cleaner import Cleaner, pictures_to_caption, resized
from supir_core.image import to_tensor, to_uint8
from supir_core.presets import derive, load_preset
from supir_core.restorer import Restorer
from supir_core.sizes import SizePlan

PRESET = derive(load_preset("demo"), ["size.upscale=1", "size.min_size_px=64", "tile.size_lat=16", "tile.stride_lat=8"])


def photo(height: int, width: int) -> np.ndarray:
    ramp = np.linspace(0, 255, height * width, dtype=np.float32).reshape(height, width)
    return np.repeat(ramp[..., None], 3, 2).astype(np.uint8)


def test_the_autoencoder_alone_gives_the_stage_1_of_the_whole_model() -> None:
    pixels, size = photo(100, 130), SizePlan(64, 128, 100, 130)
    alone = Cleaner.load("demo", device="cpu")(pixels, size)
    expected = Restorer.load("demo", device="cpu").preview(to_tensor(pixels, 64, 128)).x_stage1
    assert np.array_equal(alone, to_uint8(expected))
    assert alone.shape == (64, 128, 3)


@pytest.mark.parametrize(("shape", "expected"), [((600, 900), (512, 768)), ((300, 450), (512, 768)), ((512, 512),) * 2])
def test_a_whole_photo_has_a_short_side_of_512(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    (picture,) = pictures_to_caption(photo(*shape), PRESET, resized)
    assert picture.shape == (*expected, 3) and picture.dtype == np.uint8


def test_windows_of_the_published_size_are_cut_where_there_are_several() -> None:
    asked: list[SizePlan] = []

    def clean(pixels: np.ndarray, size: SizePlan) -> np.ndarray:
        asked.append(size)
        return resized(pixels, size)

    pixels = photo(128, 192)
    whole, *tiles = pictures_to_caption(pixels, PRESET, clean, tiles_of_px=8)
    assert [(size.network_height, size.network_width) for size in asked] == [(512, 768), (128, 192)]
    assert whole.shape == (512, 768, 3)
    assert len(tiles) == 2 and np.array_equal(tiles[1], pixels[:, 64:])
    assert len(pictures_to_caption(photo(128, 128), PRESET, resized, tiles_of_px=8)) == 1


def test_a_tile_is_shrunk_as_a_photo_is() -> None:
    large = derive(PRESET, ["tile.size_lat=128", "tile.stride_lat=64"])
    tiles = pictures_to_caption(photo(1024, 1536), large, resized, tiles_of_px=8)[1:]
    assert [tile.shape for tile in tiles] == [(512, 512, 3)] * 2


def test_it_can_be_shared_by_threads() -> None:

    cleaner, size = Cleaner.load("demo", device="cpu"), SizePlan(64, 64, 64, 64)
    photos = [photo(64, 64), photo(64, 64)[::-1].copy()] * 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pixels: cleaner(pixels, size), photos))
    assert all(np.array_equal(cleaner(pixels, size), result) for pixels, result in zip(photos, together, strict=True))
    assert torch.is_grad_enabled()
