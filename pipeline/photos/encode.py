"""Restored pictures -> photo files, in kind: grey stays grey, alpha comes back."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from supir_core.errors import PhotoError


@dataclass(frozen=True)
class Format:
    """How pictures are written."""

    extension: str
    pillow_name: str
    options: dict[str, Any]
    alpha: bool
    max_side_px: int


FORMATS = {
    "png": Format("png", "PNG", {"compress_level": 4}, alpha=True, max_side_px=2**31 - 1),
    "jpeg": Format("jpg", "JPEG", {"quality": 95, "subsampling": 0}, alpha=False, max_side_px=65500),
    "webp": Format("webp", "WEBP", {"quality": 92, "method": 4}, alpha=True, max_side_px=16383),
    "tiff": Format("tif", "TIFF", {"compression": "tiff_adobe_deflate"}, alpha=True, max_side_px=2**31 - 1),
}
"""By the name that `--format` takes."""

EXTENSIONS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "tif": "tiff", "tiff": "tiff"}
"""From a file's extension to a name in `FORMATS`."""


def check_fits(height: int, width: int, format_name: str) -> None:
    """Refuse a result that the format cannot hold, before it is computed.

    Raises:
        PhotoError: code `output-limit`.
    """
    limit = FORMATS[format_name].max_side_px
    if max(height, width) > limit:
        raise PhotoError(f"{width}x{height} does not fit into {format_name} ({limit} px a side)", code="output-limit")


def encoding_warnings(format_name: str, alpha: np.ndarray | None) -> list[str]:
    """What `encode` will leave out, as a row's warnings."""
    return ["alpha-dropped"] if alpha is not None and not FORMATS[format_name].alpha else []


def encode(pixels: np.ndarray, format_name: str, *, grey: bool = False, alpha: np.ndarray | None = None) -> bytes:
    """A picture's file.

    Args:
        pixels: (H, W, 3) uint8.
        format_name: a key of `FORMATS`.
        grey: write luminance only; whatever colour there is was invented.
        alpha: (h, w) uint8 of any size, resized to the picture; dropped where the format has none.
    """
    chosen = FORMATS[format_name]
    image = Image.fromarray(pixels)
    if grey:
        image = image.convert("L")
    if alpha is not None and chosen.alpha:
        image.putalpha(Image.fromarray(alpha).resize(image.size, Image.Resampling.LANCZOS))
    out = io.BytesIO()
    image.save(out, chosen.pillow_name, **chosen.options)
    return out.getvalue()
