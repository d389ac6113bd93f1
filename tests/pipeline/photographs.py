"""Photo files for tests: good ones of every kind, and bad ones of every kind."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin


def picture(height: int = 40, width: int = 56, seed: int = 0) -> Image.Image:
    """Smooth colours that differ in all four corners, so that a turned copy is told apart."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    corners[0, 0], corners[1, 1] = (250, 20, 20), (20, 20, 250)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def encoded(image: Image.Image, format_name: str = "JPEG", **options: Any) -> bytes:
    """The image as a file."""
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def jpeg(seed: int = 0, height: int = 40, width: int = 56) -> bytes:
    """A good photo."""
    return encoded(picture(height, width, seed), quality=95)


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Write files below a folder, by relative name."""
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_by_hand(width: int, height: int, depth: int, colour_type: int, scanlines: bytes, *more: bytes) -> bytes:
    """A PNG that no encoder at hand would write; `more` are chunks that come before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), *more, _chunk(b"IDAT", zlib.compress(scanlines)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_16_bit(colour_type: int, channels: int, *, transparent: bool = False, side: int = 32) -> bytes:
    """A 16-bit PNG: colour type 0 grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""
    row = b"\0" + b"".join(struct.pack(">H", x * 2000) * channels for x in range(side))
    chunk = [_chunk(b"tRNS", struct.pack(">H", 2000))] if transparent else []
    return png_by_hand(side, side, 16, colour_type, row * side, *chunk)


def absurd_png() -> bytes:
    """A few bytes that claim 3.6 gigapixels."""
    return png_by_hand(60000, 60000, 8, 2, b"\0\0\0\0")


def tiff_16_bit_rgb(side: int = 32) -> bytes:
    """A TIFF of 16 bits per colour, (1, 30000, 65535) everywhere, which Pillow reads as 8 without a word."""
    pixels = struct.pack("<3H", 1, 30000, 65535) * side * side
    start = 8 + 2 + 10 * 12 + 4
    short, long = 3, 4
    tags = [
        (256, long, 1, side),
        (257, long, 1, side),
        (258, short, 3, start),  # bits per sample
        (259, short, 1, 1),
        (262, short, 1, 2),
        (273, long, 1, start + 6),
        (277, short, 1, 3),
        (278, long, 1, side),
        (279, long, 1, len(pixels)),
        (284, short, 1, 1),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<3H", 16, 16, 16) + pixels


def raw_photo() -> bytes:
    """A TIFF with the tag that marks a camera's raw file (DNG)."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\1\4\0\0"
    tags.tagtype[50706] = 1
    return encoded(picture(), "TIFF", tiffinfo=tags)


BAD: dict[str, tuple[str, bytes]] = {
    "empty.jpg": ("empty", b""),
    "truncated.jpg": ("damaged", jpeg(1, 200, 200)[:2000]),
    "page.jpg": ("not-an-image", b"<!DOCTYPE html><html><body>404 not found</body></html>"),
    "dot.png": ("too-small", encoded(Image.new("RGB", (1, 1)), "PNG")),
    "absurd.png": ("too-large", absurd_png()),
    "camera.tif": ("raw-photo", raw_photo()),
    "page.jxl.jpg": ("unsupported-format", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40)),
}
"""By file name: the error code it must get, and its bytes."""
