"""Photos that nobody trained on, damaged in fixed ways, restored in several looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from supir_core import image
from supir_core.presets import Preset, load_preset
from supir_core.restorer import Photo, Restorer
from training.evaluation import EVALUATION, Damaged

PHOTOS = Path(__file__).with_name("photos")
TAUS = (0.5, 1.0, 2.0, 4.0, None)
NOISY = (
    "noise",
    "jpeg30",
    "jpeg60",
    "noise-jpeg",
    "x2-noise-jpeg",
)  # more to do than to enlarge
DEMO = "tau_r 0.5"  # what the demo preset asks for
EMPTY, NEGATIVE = "guidance 4, no negative", "guidance 4, negative"


def read_photos() -> dict[str, np.ndarray]:
    """All photos by name: (192, 192, 3) uint8."""
    return {path.stem: np.asarray(Image.open(path).convert("RGB")) for path in sorted(PHOTOS.glob("*.png"))}


def damaged_photos(original: np.ndarray) -> dict[str, Damaged]:
    """A photo in every kind of damage."""
    return {name: damage(original) for name, damage in EVALUATION.items()}


def looks() -> dict[str, Preset]:
    """The demo preset over tau_r, and without a pull under strong guidance with and without its negative prompt."""
    demo = load_preset("demo")
    made = {f"tau_r {tau or 'off'}": replace(demo, pull=replace(demo.pull, tau_r=tau)) for tau in TAUS}
    strong = replace(made["tau_r off"], guidance=replace(demo.guidance, start=4.0, end=4.0))
    made[EMPTY] = replace(strong, text=replace(strong.text, negative=""))
    made[NEGATIVE] = strong
    return made


def at_size_of(preset: Preset, damaged: Damaged) -> Preset:
    """The preset, so that the result has the size of the photo before it was damaged."""
    return replace(preset, size=replace(preset.size, upscale=float(damaged.scale), min_size_px=64))


def bicubic(damaged: Damaged) -> np.ndarray:
    """The photo as it is, enlarged if it was shrunk."""
    return image.to_uint8(_tensor(damaged))


@torch.inference_mode()
def stage1(restorer: Restorer, damaged: Damaged) -> np.ndarray:
    """What stage 1 alone makes of it."""
    return image.to_uint8(restorer.preview(_tensor(damaged)).x_stage1)


def restore(restorer: Restorer, name: str, damaged: Damaged, presets: Mapping[str, Preset]) -> dict[str, np.ndarray]:
    """The photo in every look."""
    photos = [Photo(name, damaged.pixels, at_size_of(preset, damaged)) for preset in presets.values()]
    return {
        look: image.to_uint8(restored.image) for look, restored in zip(presets, restorer.restore(photos), strict=True)
    }


def _tensor(damaged: Damaged) -> torch.Tensor:
    height, width = damaged.pixels.shape[:2]
    return image.to_tensor(damaged.pixels, height * damaged.scale, width * damaged.scale)
