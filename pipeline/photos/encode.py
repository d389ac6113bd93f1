"""Restored pictures -> photo files, in kind: grey stays grey, alpha comes back, 16 bits stay 16 bits.

The networks' floats become levels once, row by row while the file is written: beside them and the file, no whole
picture is held.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pipeline.photos.vips import libvips
from supir_core.errors import PhotoError

KEEP = "keep"
"""What `--format` takes for each photo's own format."""


@dataclass(frozen=True)
class Format:
    """How pictures are written."""

    extension: str
    pillow_name: str
    saver: str  # libvips's name
    options: dict[str, Any] = field(default_factory=dict)  # of the saver
    quality: int | None = None  # usual, where there is a choice
    alpha: bool = True
    deep: bool = False  # holds 16 bits
    max_side_px: int = 2**31 - 1


FORMATS = {
    "png": Format("png", "PNG", "png", {"compression": 4, "filter": "all"}, deep=True),
    "jpeg": Format("jpg", "JPEG", "jpeg", {"subsample_mode": "off"}, quality=95, alpha=False, max_side_px=65500),
    "webp": Format("webp", "WEBP", "webp", {"effort": 4}, quality=92, max_side_px=16383),
    "tiff": Format("tif", "TIFF", "tiff", {"compression": "deflate", "predictor": "horizontal"}, deep=True),
}
"""By the name that `--format` takes."""

EXTENSIONS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "tif": "tiff", "tiff": "tiff"}
"""From a file's extension to a name in `FORMATS`."""

LONGEST_EXTENSION = max((chosen.extension for chosen in FORMATS.values()), key=len)
CLASSIC_TIFF_BYTES = 2**32 - 2**26  # of pixels; beyond, offsets may not fit: BigTIFF
_KEPT = {"JPEG": "jpeg", "MPO": "jpeg", "TIFF": "tiff", "WEBP": "webp"}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow and JPEG have it


def format_of(asked: str, source_format: str) -> str:
    """The format of a result: what is asked for, or the photo's own; PNG where we do not write that.

    Args:
        asked: a key of `FORMATS`, or `keep`.
        source_format: Pillow's name.
    """
    return _KEPT.get(source_format, "png") if asked == KEEP else asked


def extension_of(asked: str, source_format: str | None) -> str:
    """The extension of a result's file; the longest that it may be while the photo's format is unknown."""
    if asked == KEEP and source_format is None:
        return LONGEST_EXTENSION
    return FORMATS[format_of(asked, source_format or "")].extension


def check_fits(height: int, width: int, format_name: str) -> None:
    """Refuse a result that the format cannot hold, before it is computed.

    Raises:
        PhotoError: code `output-limit`.
    """
    limit = FORMATS[format_name].max_side_px
    if max(height, width) > limit:
        raise PhotoError(f"{width}x{height} does not fit into {format_name} ({limit} px a side)", code="output-limit")


def bits_of(format_name: str, source_bits: int) -> int:
    """Bits per sample of a result: 16 for photos of more than 8, where the format has them."""
    return 16 if source_bits > 8 and FORMATS[format_name].deep else 8


def pixel_bytes(height: int, width: int, channels: int, bits: int) -> int:
    """Of a picture that is not packed; packed ones are hardly ever larger."""
    return height * width * channels * bits // 8


def encoding_warnings(format_name: str, alpha: np.ndarray | None, source_bits: int) -> list[str]:
    """What `encode` will leave out, as a row's warnings."""
    chosen, warnings = FORMATS[format_name], []
    if alpha is not None and not chosen.alpha:
        warnings.append("alpha-dropped")
    if source_bits > 8 and not chosen.deep:
        warnings.append("depth-reduced")
    return warnings


def encode(
    image: np.ndarray,
    format_name: str,
    *,
    bits: int = 8,
    grey: bool = False,
    alpha: np.ndarray | None = None,
    quality: int | None = None,
    classic_tiff_bytes: int = CLASSIC_TIFF_BYTES,
) -> io.BytesIO:
    """A picture's file, without metadata.

    Args:
        image: (3, H, W) float32 in [-1, 1], sRGB.
        format_name: a key of `FORMATS`.
        bits: per sample, 8 or 16; as `bits_of` says.
        grey: write luminance only; whatever colour there is was invented.
        alpha: (h, w) uint16 of any size, resized to the picture; dropped where the format has none.
        quality: of JPEG and WebP, 1 to 100; each format's own if None.
        classic_tiff_bytes: of pixels, beyond which a TIFF file becomes a BigTIFF.
    """
    chosen = FORMATS[format_name]
    height, width = image.shape[1:]
    planes = [_plane(plane, "float") for plane in image]
    if grey:
        colours = sum(
            (plane * weight for plane, weight in zip(planes[1:], _LUMA[1:], strict=True)), planes[0] * _LUMA[0]
        )
    else:
        colours = planes[0].bandjoin(planes[1:])
    picture = _levels(colours, bits)
    if alpha is not None and chosen.alpha:
        picture = picture.bandjoin(_resized(alpha, height, width, bits))
    kinds = {8: ("srgb", "b-w"), 16: ("rgb16", "grey16")}[bits]
    picture = picture.copy(interpretation=kinds[grey])
    options = {**chosen.options, "keep": "none"}
    if chosen.quality is not None:
        options["Q"] = quality or chosen.quality
    if format_name == "tiff":
        options["bigtiff"] = pixel_bytes(height, width, picture.bands, bits) > classic_tiff_bytes
    return _saved(picture, chosen.saver, options)


def _plane(values: np.ndarray, kind: str) -> Any:
    """(H, W) as a pyvips image of one channel; nothing is copied."""
    height, width = values.shape
    return libvips().Image.new_from_memory(np.ascontiguousarray(values), width, height, 1, kind)


def _levels(image: Any, bits: int) -> Any:
    """[-1, 1] -> [0, 2^bits - 1], rounded; what lies beyond is clipped."""
    half = (2**bits - 1) / 2
    return image.linear(half, half).rint().cast("uchar" if bits == 8 else "ushort")


def _resized(alpha: np.ndarray, height: int, width: int, bits: int) -> Any:
    resized = np.asarray(Image.fromarray(alpha).resize((width, height), Image.Resampling.LANCZOS))
    plane = _plane(resized, "ushort")
    return plane if bits == 16 else (plane / 257).rint().cast("uchar")


def _saved(picture: Any, saver: str, options: dict[str, Any]) -> io.BytesIO:
    """The file as it is written: into a buffer that grows, not into one that is copied in the end."""
    out, target = io.BytesIO(), libvips().TargetCustom()
    target.on_write(out.write)
    target.on_read(out.read)
    target.on_seek(out.seek)
    getattr(picture, f"{saver}save_target")(target, **options)
    return out
