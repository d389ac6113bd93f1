"""Stage 1 that is known already: what it spares, and that it changes nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from supir_core.image import to_uint8
from supir_core.latents import Latents, from_bytes, to_bytes
from supir_core.presets import derive, load_preset
from supir_core.restorer import Photo, Restorer

SMALL = ("size.min_size_px=64", "size.upscale=1", "sampling.num_steps=2", "tile.size_lat=8", "tile.stride_lat=4")
LOOK = load_preset("demo", SMALL)
MADE_WITH = {"model_digest": "f" * 12}


def pixels(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 100, 3), dtype=np.uint8)


A = Photo("a", pixels(), LOOK, "a street")


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load("demo", device="cpu")


@pytest.fixture
def calls(restorer: Restorer) -> Iterator[Counter[str]]:
    """How often each part of the autoencoder runs."""
    counted = Counter[str]()
    vae = restorer.networks.vae
    parts = {"denoise_encoder": vae.denoise_encoder, "encoder": vae.encoder, "decoder": vae.decoder}
    hooks = [
        part.register_forward_hook(lambda *_, name=name: counted.update([name]))  # type: ignore[misc]
        for name, part in parts.items()
    ]
    yield counted
    for hook in hooks:
        hook.remove()


def looks(photo: Photo, *settings: str) -> list[Photo]:
    return [dataclasses.replace(photo, preset=derive(photo.preset, [setting])) for setting in settings]


def test_the_looks_of_a_photo_share_its_stage_1(restorer: Restorer, calls: Counter[str]) -> None:
    three = looks(A, "pull.tau_r=0.5", "pull.tau_r=4", "sampling.seed=7")
    together = restorer.restore(three)
    assert calls == {"denoise_encoder": 1, "encoder": 1, "decoder": 1 + 3}
    for photo, result in zip(three, together, strict=True):
        [alone] = restorer.restore([photo])
        apart = np.abs(to_uint8(alone.image).astype(int) - to_uint8(result.image).astype(int))
        assert apart.max() <= 1
    assert len({to_uint8(result.image).tobytes() for result in together}) == 3


def test_looks_of_other_sizes_do_not_share_it(restorer: Restorer, calls: Counter[str]) -> None:
    restorer.restore(looks(A, "size.upscale=1", "size.upscale=2", "size.short_side_px=64"))
    assert calls["denoise_encoder"] == 2, "the first and the third are of one size"


def test_what_is_cleaned_and_what_is_not_share_nothing(restorer: Restorer) -> None:
    as_it_is, cleaned = restorer.restore(looks(A, "stage1.clean=none", "stage1.clean=denoise"))
    [alone] = restorer.restore(looks(A, "stage1.clean=none"))
    assert as_it_is.latents and cleaned.latents and alone.latents
    assert torch.equal(as_it_is.latents.z_control, alone.latents.z_control)
    assert not torch.equal(as_it_is.latents.z_control, cleaned.latents.z_control)


@pytest.mark.parametrize("clean", ["denoise", "none"])
def test_known_latents_give_the_same_picture_bit_for_bit(clean: str, restorer: Restorer, calls: Counter[str]) -> None:
    [other] = restorer.restore(looks(A, f"stage1.clean={clean}"))
    [vivid] = looks(A, "pull.tau_r=4")
    vivid = dataclasses.replace(vivid, preset=derive(vivid.preset, [f"stage1.clean={clean}"]))
    [fresh] = restorer.restore([vivid])
    calls.clear()
    assert other.latents is not None
    kept = from_bytes(to_bytes(other.latents, MADE_WITH), MADE_WITH)
    [again] = restorer.restore([dataclasses.replace(vivid, latents=kept)])
    assert torch.equal(again.image, fresh.image)
    assert calls == {"decoder": 2 if clean == "denoise" else 1}


def test_bytes_are_taken_back_only_where_all_that_decided_them_is_the_same() -> None:
    latents = Latents(*torch.randn(3, 1, 4, 8, 8))
    data = to_bytes(latents, MADE_WITH)
    again = from_bytes(data, MADE_WITH)
    assert again is not None and all(torch.equal(a, b) for a, b in zip(again, latents, strict=True))
    assert from_bytes(data, {"model_digest": "0" * 12}) is None
    assert from_bytes(data[:-20], MADE_WITH) is None
    assert from_bytes(b"", MADE_WITH) is None and from_bytes(b"{}" * 40, MADE_WITH) is None


def test_bytes_per_megapixel() -> None:
    """As the documentation says."""
    cells = 1_000_000 // 64
    exact = torch.randn(3, 1, 4, 1, cells)
    assert len(to_bytes(Latents(*exact), MADE_WITH)) == pytest.approx(0.75e6, rel=0.01)
    assert len(to_bytes(Latents(*exact.bfloat16().float()), MADE_WITH)) == pytest.approx(0.375e6, rel=0.01)
