"""What only a GPU can show: bfloat16 by default, CUDA graphs, memory that ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from supir_core.compiled import Compiled
from supir_core.image import to_uint8
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restorer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LOOK = load_preset("demo", ["size.upscale=1", "sampling.num_steps=2", "tile.size_lat=16", "tile.stride_lat=8"])


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    draw = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 192, dtype=np.float32)[:, None, None] + draw.normal(0, 5, (192, 256, 3))
    return [Photo(name, ramp.clip(0, 255).astype(np.uint8), LOOK) for name in ("a", "b")]


def levels_apart(one: torch.Tensor, other: torch.Tensor) -> int:
    return int(np.abs(to_uint8(one).astype(int) - to_uint8(other).astype(int)).max())


def test_a_gpu_computes_what_the_processor_does(photos: list[Photo]) -> None:
    here, there = (Restorer.load("demo", device=device, dtype="float32") for device in ("cpu", "cuda"))
    for one, other in zip(here.restore(photos), there.restore(photos), strict=True):
        assert levels_apart(one.image, other.image) <= 8  # TF32 and other kernels


def test_compiled_networks_compute_what_plain_ones_do(photos: list[Photo]) -> None:
    plain, fast = (Restorer.load("demo", device="cuda", compiled=compiled) for compiled in (False, True))
    for _ in range(3):  # the second call of a shape records a CUDA graph, the third runs it
        for one, other in zip(plain.restore(photos), fast.restore(photos), strict=True):
            assert levels_apart(one.image, other.image) <= 8  # bfloat16
    step = fast._denoiser._step
    assert isinstance(step, Compiled) and step.why_not == ""


def test_where_the_gpus_memory_ends_photos_are_restored_in_smaller_steps(photos: list[Photo]) -> None:
    roomy = Restorer.load("demo", device="cuda", dtype="float32", batch=16)
    expected = roomy.restore(photos)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 64 * 2**20) / total)
    try:
        found = roomy.restore(photos)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    for one, other in zip(expected, found, strict=True):
        assert levels_apart(one.image, other.image) <= 1
