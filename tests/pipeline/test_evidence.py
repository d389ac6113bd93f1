"""What the evidence sees, one change at a time, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.photos.evidence import measured, reasons, sharpness
from supir_core.presets import load_preset

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
LIMITS = load_preset("faithful").review


def truth() -> np.ndarray:
    """(H, W, 3) float32 in 0 to 255: what a perfect restoration gives."""
    with Image.open(PHOTOS / "space" / "deep-field.jpg") as image:
        square = image.convert("RGB").resize((512, 512), Image.Resampling.LANCZOS)
    with Image.open(PHOTOS / "portraits" / "hopper.jpg") as image:
        square.paste(image.convert("RGB").resize((360, 400), Image.Resampling.LANCZOS), (76, 56))
    return np.asarray(square).astype(np.float32)


def photo(perfect: np.ndarray) -> np.ndarray:
    """(256, 256, 3) uint16: half the size, and noisy."""
    small = np.asarray(Image.fromarray(perfect.astype(np.uint8)).resize((256, 256), Image.Resampling.BOX))
    noisy = small + np.random.default_rng(1).normal(0, 5, small.shape)
    return (noisy.clip(0, 255).round() * 257).astype(np.uint16)


def blurred(pixels: np.ndarray) -> np.ndarray:
    small = Image.fromarray(pixels.astype(np.uint8)).resize((72, 72), Image.Resampling.BOX)
    return np.asarray(small.resize((512, 512), Image.Resampling.BICUBIC)).astype(np.float32)


def replaced(pixels: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    out[120:220, 190:300] = pixels[300:400, 60:170][:, ::-1]
    return out


def textured(pixels: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(pixels.shape[:2])
    return pixels + 30 * ((rows + columns) % 2 * 2 - 1)[..., None]


CHANGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], set[str]]] = {
    "nothing": (lambda pixels: pixels, set()),
    "red": (lambda pixels: pixels * [1.12, 1, 1], {"colour"}),
    "gamma": (lambda pixels: 255 * (pixels / 255) ** 0.8, {"colour"}),
    "moved": (lambda pixels: np.roll(pixels, 4, axis=1), {"shift"}),
    "replaced": (replaced, {"local-change"}),
    "mush": (blurred, {"soft"}),
    "texture": (textured, {"texture"}),
    "black": (lambda pixels: pixels * 0, {"colour", "local-change", "soft"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_seen(change: str) -> None:
    perfect = truth()
    apply, expected = CHANGES[change]
    result = apply(perfect).clip(0, 255).transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    evidence = measured(result, photo(perfect))
    found = set(reasons(evidence, LIMITS))
    assert expected <= found if expected else not found, evidence


def test_noise_that_is_gone_is_no_loss() -> None:
    perfect = truth()
    grain = np.random.default_rng(2).normal(0, 20, (256, 256, 3)) * 257
    noisy = (photo(perfect) + grain).clip(0, 65535).astype(np.uint16)
    small = np.asarray(Image.fromarray(perfect.astype(np.uint8)).resize((256, 256), Image.Resampling.BOX))
    clean = small.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    evidence = measured(clean, noisy)
    assert evidence.sharpness_ratio is not None and evidence.sharpness_ratio < 0.5
    assert not {"soft", "noise", "texture", "shift"} & set(reasons(evidence, LIMITS))


def test_a_result_that_is_the_photo_is_no_difference() -> None:
    pixels = photo(truth())
    evidence = measured(pixels.transpose(2, 0, 1).astype(np.float32) / 32767.5 - 1, pixels)
    assert evidence.de_mean < 0.01 and evidence.de_block < 0.05 and evidence.shift_px < 0.01
    assert evidence.sharpness_ratio == pytest.approx(1, abs=0.05) and evidence.noise_ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("size", [(16, 16), (17, 300), (1, 40)])
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_any_size(size: tuple[int, int], scale: float) -> None:
    height, width = size
    pixels = np.full((max(16, height), width, 3), 30000, np.uint16)
    image = np.zeros((3, max(1, round(pixels.shape[0] * scale)), max(1, round(width * scale))), np.float32)
    evidence = measured(image, pixels)
    assert np.isfinite([value for value in evidence if value is not None]).all()


def test_sharpness_orders_photos() -> None:
    perfect = truth()
    sharp, soft = ((part.round() * 257).astype(np.uint16) for part in (perfect, blurred(perfect).clip(0, 255)))
    assert sharpness(sharp) > 10 * sharpness(soft)
    assert sharpness(np.full((64, 64, 3), 9000, np.uint16)) < 1e-6
