"""The pictures that captions are made from: stage 1 of a photo, by the autoencoder alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from supir_core.autoencoder import Autoencoder, default_budget_bytes
from supir_core.image import CAPTION_SIDE_PX, shrunk, to_tensor, to_uint8
from supir_core.precision import device_named, precision_named
from supir_core.presets import Preset
from supir_core.sizes import SizePlan, plan_size, planned
from supir_core.tile_captions import caption_windows
from supir_core.weights import load_vae

Clean = Callable[[np.ndarray, SizePlan], np.ndarray]
"""(H, W, 3) uint8 and the sizes that are asked for -> (network_height, network_width, 3) uint8."""


class Cleaner:
    """A resident denoise encoder and decoder; for any number of threads.

    Args:
        autoencoder: of a model.
    """

    def __init__(self, autoencoder: Autoencoder):
        self._autoencoder = autoencoder
        self._alone = threading.Lock()  # feature maps take memory; one photo at a time is fast enough

    @classmethod
    def load(cls, model: str, *, device: str | None = None, dtype: str | None = None) -> Cleaner:
        """The autoencoder of a model, without its other networks; arguments and errors as of `Restorer.load`."""
        place = device_named(device)
        vae = load_vae(model, place, precision_named(dtype, place))
        return cls(Autoencoder(vae, vae.dims.latent_scale, default_budget_bytes(place)))

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, size: SizePlan) -> np.ndarray:
        """Stage 1 of a photo, (network_height, network_width, 3) uint8."""
        x_lq = to_tensor(pixels, size.network_height, size.network_width)
        with self._alone:
            return to_uint8(self._autoencoder.stage1(x_lq).x_stage1)


def resized(pixels: np.ndarray, size: SizePlan) -> np.ndarray:
    """The photo itself in place of its stage 1, of the same size."""
    target = size.network_width, size.network_height
    return np.asarray(Image.fromarray(pixels).resize(target, Image.Resampling.BICUBIC))


def pictures_to_caption(
    pixels: np.ndarray, preset: Preset, clean: Clean, tiles_of_px: int | None = None
) -> list[np.ndarray]:
    """The picture of a photo with a short side of 512, and one more per window of `caption_windows` if asked for.

    Args:
        pixels: (H, W, 3) uint8, sRGB, upright.
        preset: decides at which size the windows are cut, and how.
        clean: a `Cleaner`, or `resized`.
        tiles_of_px: the side of a latent cell, if windows are to be cut, where there is more than one.

    Returns:
        (h, w, 3) uint8 each, with a short side of at most 512.
    """
    height, width = pixels.shape[:2]
    small = plan_size(height, width, upscale=1, min_size_px=CAPTION_SIDE_PX, short_side_px=CAPTION_SIDE_PX)
    whole = Image.fromarray(clean(pixels, small)).resize((small.width, small.height), Image.Resampling.BICUBIC)
    pictures = [np.asarray(whole)]
    if tiles_of_px is not None:
        size = planned(preset.size, height, width)
        cells = size.network_height // tiles_of_px, size.network_width // tiles_of_px
        windows = caption_windows(preset.tile, *cells)
        if len(windows) > 1:
            large = clean(pixels, size)
            for top, left, tall, wide in (tuple(tiles_of_px * side for side in window) for window in windows):
                pictures.append(shrunk(large[top : top + tall, left : left + wide]))
    return pictures
