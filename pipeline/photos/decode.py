"""Photo files -> upright 8-bit sRGB arrays, and what is needed to write the result in kind."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from supir_core.errors import PhotoError, SupirError

# What Pillow may try: raster photos only (EPS, for one, would start an interpreter).
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF")
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif")
# Photos too, but not to be read here. Raw files hold a small preview that would decode as if it were the photo.
RAW_EXTENSIONS = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
OTHER_EXTENSIONS = (".heic", ".heif", ".jxl")
PHOTO_EXTENSIONS = EXTENSIONS + RAW_EXTENSIONS + OTHER_EXTENSIONS

MIN_SIDE_PX = 16
MAX_PIXELS = 500_000_000
HEAD_BYTES = 2**16  # of a file: where its bits per sample stand, if not in a directory
DNG_VERSION_TAG = 50706
BITS_PER_SAMPLE_TAG = 258


@dataclass(frozen=True)
class Decoded:
    """One photo, upright."""

    pixels: np.ndarray  # (H, W, 3) uint8, sRGB
    alpha: np.ndarray | None  # (H, W) uint8
    grey: bool  # the file has no colour, nor shall the result
    format: str  # Pillow's name
    mode: str  # Pillow's name
    warnings: list[str]

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return int(self.pixels.shape[1])


def decode(data: bytes) -> Decoded:
    """Decode the bytes of a photo file; the content decides the format, whatever the file's name.

    Raises:
        PhotoError: `empty`, `not-an-image`, `truncated`, `corrupt`, `too-small`, `too-large`, `raw-photo` or
            `unsupported-depth`.
    """
    with _opened(io.BytesIO(data), data) as image:
        return _decoded(image, _bits(image, data))


class Header(NamedTuple):
    """What a photo file says of itself; the sides may be those of the photo lying on its side."""

    height: int
    width: int
    format: str  # Pillow's name


def read_header(file: Any) -> Header:
    """The header of a photo in a binary file, of which only the parts that it takes are read; no pixels.

    WebP and AVIF files are read in full.

    Raises:
        PhotoError: as `decode`, for what can be seen without the pixels.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    with _opened(file, head) as image:
        return Header(image.height, image.width, image.format or "")


@contextmanager
def _opened(file: Any, head: bytes) -> Iterator[Image.Image]:
    """The image in a file, if it is one that we decode; what goes wrong with it then becomes a PhotoError, too."""
    if not head:
        raise PhotoError("the file is empty", code="empty")
    Image.init()  # naming formats needs their plug-ins
    Image.MAX_IMAGE_PIXELS = None  # our own limit below refuses what is absurd and takes large scans
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check(image, head)
            yield image
    except SupirError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError("not an image in a known format", code="not-an-image") from error
    except MemoryError as error:
        raise PhotoError("decoding needs more memory than there is", code="out-of-memory") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        code = "truncated" if "truncated" in str(error).lower() else "corrupt"
        raise PhotoError(f"cannot be decoded: {error}", code=code) from error


def check_name(name: str) -> None:
    """Refuse by its extension what cannot be decoded rightly.

    Raises:
        PhotoError: `raw-photo` or `unsupported-format`.
    """
    extension = PurePosixPath(name).suffix.lower()
    if extension in RAW_EXTENSIONS:
        raise PhotoError("a camera's raw file; develop it to TIFF or JPEG first", code="raw-photo")
    if extension in OTHER_EXTENSIONS:
        raise PhotoError(f"{extension} files are not read yet; convert it to TIFF or PNG", code="unsupported-format")


def _check(image: Image.Image, head: bytes) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise PhotoError(f"{width}x{height} is too small; the short side must have {MIN_SIDE_PX} px", code="too-small")
    if width * height > MAX_PIXELS:
        raise PhotoError(f"{width}x{height} exceeds {MAX_PIXELS // 10**6} megapixels", code="too-large")
    tags = getattr(image, "tag_v2", {})
    if DNG_VERSION_TAG in tags:
        raise PhotoError("a camera's raw file; develop it to TIFF or JPEG first", code="raw-photo")
    bits = _bits(image, head)
    if (bits > 8 and len(image.getbands()) > 1) or image.mode == "F":
        # Pillow would return 8 bits of them without a word, and for one TIFF layout garbage.
        raise PhotoError(f"{bits} bits per channel in colour are not supported yet", code="unsupported-depth")


def _bits(image: Image.Image, head: bytes) -> int:
    """Bits per sample in the file, which Pillow's mode does not tell."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(BITS_PER_SAMPLE_TAG, (1,))))  # type: ignore[attr-defined]
    if image.format == "PNG":
        return head[24]  # IHDR's bit depth
    if image.format == "JPEG2000":
        return (head[head.find(b"\xff\x4f\xff\x51") + 40] & 127) + 1  # SIZ's first component
    if image.format == "AVIF":
        return 10 if head[head.find(b"av1C") + 6] & 0x40 else 8  # the configuration's high_bitdepth
    return 8


def _decoded(image: Image.Image, bits: int) -> Decoded:
    image.load()
    warnings = ["first-page-only"] if getattr(image, "n_frames", 1) > 1 else []
    format_, mode = image.format or "", image.mode
    upright = ImageOps.exif_transpose(image)
    alpha = None
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"))
    grey = mode in ("1", "L", "LA") or mode.startswith("I")
    if mode.startswith("I"):  # deep grey: Pillow's own conversion clips it to white
        values = np.asarray(upright).astype(np.int64) >> max(0, bits - 8)
        upright = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return Decoded(np.asarray(_to_srgb(upright, warnings)), alpha, grey, format_, mode, warnings)


def _to_srgb(image: Image.Image, warnings: list[str]) -> Image.Image:
    profile = image.info.get("icc_profile")
    rgb = image.convert("RGB") if image.mode not in ("RGB", "CMYK", "L") else image
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(rgb, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted if converted is not None else rgb.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            warnings.append("colour-profile-ignored")
    return rgb.convert("RGB")
