"""What a photo file says of itself before its pixels are decoded, and which files are refused by that."""

from __future__ import annotations

import contextlib
import importlib.util
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from pipeline.photos import ifd
from supir_core.errors import PhotoError, SupirError

# What Pillow may try: raster photos only (EPS, for one, would start an interpreter).
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF")
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif")
# Photos too, but not to be read here. Raw files hold a small preview that would decode as if it were the photo.
RAW_EXTENSIONS = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
HEIF_EXTENSIONS = (".heic", ".heif")  # with the extra `heif`
OTHER_EXTENSIONS = (".jxl",)
PHOTO_EXTENSIONS = EXTENSIONS + RAW_EXTENSIONS + HEIF_EXTENSIONS + OTHER_EXTENSIONS

MIN_SIDE_PX = 16
MAX_PIXELS = 500_000_000
MAX_SIDE_PX = 200_000
HEAD_BYTES = 2**16  # of a file: where its bits per sample stand, if not in a directory

DNG_VERSION, PHOTOMETRIC, COMPRESSION, SAMPLES, PLANAR, TILE_WIDTH = 50706, 262, 259, 277, 284, 322
_UNPACKED_BY_VIPS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 50001)  # TIFF's numbers of compressions
SENSOR = (32803, 34892)  # colour filter array, linear raw: the photometric kinds of a camera's raw file
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR", b"\0MRM", b"FOVb")
_JXL_STARTS = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_DEVELOP = "a camera's raw file; develop it to TIFF or JPEG first"


class Header(NamedTuple):
    """What a photo file says of itself; the sides may be those of the photo lying on its side."""

    height: int
    width: int
    format: str  # Pillow's name
    mode: str = "RGB"  # Pillow's name
    bits: int = 8  # per sample

    @property
    def bilevel(self) -> bool:
        """Black and white alone: a page of text, mostly."""
        return self.bits == 1 and self.mode == "1"


def read_header(file: Any) -> Header:
    """The header of a photo in a binary file, of which only the parts that it takes are read; no pixels.

    WebP and AVIF files are read in full.

    Raises:
        PhotoError: `empty`, `not-an-image`, `corrupt`, `too-small`, `too-large`, `raw-photo`, `unsupported-format` or
            `unsupported-depth`, for what can be seen without the pixels.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    with opened(file, head) as image:
        header = _of_tiff(file) if image is None else _of_image(image, head)
    return _checked(header)


@contextmanager
def opened(file: Any, head: bytes) -> Iterator[Image.Image | None]:
    """The image in a file as Pillow sees it, None for a TIFF file that only libvips knows.

    What goes wrong with it, here or within, becomes a PhotoError.
    """
    if not head:
        raise PhotoError("the file is empty", code="empty")
    Image.init()  # naming formats needs their plug-ins
    Image.MAX_IMAGE_PIXELS = None  # our own limit refuses what is absurd and takes large scans
    try:
        _refuse(head)
        try:
            image = Image.open(file, formats=_formats())
        except UnidentifiedImageError:
            if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                raise
            yield None
            return
        with image:
            _refuse_raw_tiff(image, file)
            yield image
    except SupirError:
        raise
    except UnidentifiedImageError as error:
        raise PhotoError("not an image in a known format", code="not-an-image") from error
    except MemoryError as error:
        raise PhotoError("decoding needs more memory than there is", code="out-of-memory") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise PhotoError(f"cannot be decoded: {error}", code="corrupt") from error


def check_name(name: str) -> None:
    """Refuse by its extension what cannot be decoded rightly.

    Raises:
        PhotoError: `raw-photo` or `unsupported-format`.
    """
    extension = PurePosixPath(name).suffix.lower()
    if extension in RAW_EXTENSIONS:
        raise PhotoError(_DEVELOP, code="raw-photo")
    if extension in HEIF_EXTENSIONS and not has_heif():
        raise _no_heif()
    if extension in OTHER_EXTENSIONS:
        raise PhotoError(f"{extension} files are not read yet; convert it to TIFF or PNG", code="unsupported-format")


def has_heif() -> bool:
    """Whether HEIC files can be read."""
    return importlib.util.find_spec("pillow_heif") is not None


def _no_heif() -> PhotoError:
    return PhotoError("HEIC files need one more package", hint="pip install supir[heif]", code="unsupported-format")


def _formats() -> tuple[str, ...]:
    if not has_heif():
        return FORMATS
    import pillow_heif  # noqa: PLC0415  # there only with the extra

    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _refuse(head: bytes) -> None:
    """By their content, whatever the file's name is."""
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    if head.startswith(_RAW_STARTS) or brand == b"crx " or head[8:10] == b"CR":
        raise PhotoError(_DEVELOP, code="raw-photo")
    if head.startswith(_JXL_STARTS):
        raise PhotoError("JPEG XL is not read yet; convert it to TIFF or PNG", code="unsupported-format")
    if brand in _HEIF_BRANDS and not has_heif() and b"avif" not in head[:64]:
        raise _no_heif()
    frame = _jpeg_frame(head)
    if frame is not None and frame[0] == 3:
        raise PhotoError("lossless JPEG is not read; convert it to TIFF or PNG", code="unsupported-format")
    if frame is not None and frame[1] != 8:
        raise PhotoError(f"JPEG with {frame[1]} bits per sample; convert it to TIFF or PNG", code="unsupported-depth")


def _refuse_raw_tiff(image: Image.Image, file: Any) -> None:
    """The first directory of a camera's TIFF often is a small preview, which decodes well."""
    tags: Any = getattr(image, "tag_v2", {})
    kinds = {tags.get(PHOTOMETRIC)}
    inner = tags.get(ifd.SUB_IFDS, ())
    for offset in inner[:8] if isinstance(inner, tuple) else [inner]:
        with contextlib.suppress(ValueError):
            layout, _ = ifd.read_layout(file)
            entries, _ = ifd.read_directory(file, layout, offset)
            kinds.add(ifd.number(entries, PHOTOMETRIC, layout.order))
    if kinds & set(SENSOR) or DNG_VERSION in tags:
        raise PhotoError(_DEVELOP, code="raw-photo")


def _jpeg_frame(head: bytes) -> tuple[int, int] | None:
    """Which kind of JPEG (the number of its start-of-frame marker) and how many bits a sample."""
    at = 2
    while head[:2] == b"\xff\xd8" and at + 5 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker - 0xC0, head[at + 4]
        at += 2 if marker in (0xFF, 0x01) else 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None


def _of_image(image: Image.Image, head: bytes) -> Header:
    return Header(image.height, image.width, image.format or "", image.mode, _bits(image, head))


def _bits(image: Image.Image, head: bytes) -> int:
    """Bits per sample in the file, which Pillow's mode does not tell."""
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if image.format == "PNG":
        return 1 if image.mode == "1" else max(8, head[24])  # IHDR's bit depth
    if image.format == "JPEG2000":
        return (head[head.find(b"\xff\x4f\xff\x51") + 42] & 127) + 1  # SIZ's first component
    if image.format == "AVIF":
        return 10 if head[head.find(b"av1C") + 6] & 0x40 else 8  # the configuration's high_bitdepth
    return int(image.info.get("bit_depth", 8))  # HEIF's


def _of_tiff(file: Any) -> Header:
    layout, first = ifd.read_layout(file)
    entries, _ = ifd.read_directory(file, layout, first)
    height, width, bits, samples = (
        ifd.number(entries, tag, layout.order, usual) for tag, usual in ((257, 0), (256, 0), (258, 1), (SAMPLES, 1))
    )
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(samples, f"{samples} channels")
    return Header(height, width, "TIFF", "CMYK" if ifd.number(entries, PHOTOMETRIC, layout.order) == 5 else mode, bits)


def _checked(header: Header) -> Header:
    height, width = header.height, header.width
    if min(width, height) < MIN_SIDE_PX:
        raise PhotoError(f"{width}x{height} is too small; the short side must have {MIN_SIDE_PX} px", code="too-small")
    if max(width, height) > MAX_SIDE_PX:
        raise PhotoError(f"{width}x{height} exceeds {MAX_SIDE_PX} px a side", code="too-large")
    if width * height > MAX_PIXELS:
        raise PhotoError(f"{width}x{height} exceeds {MAX_PIXELS // 10**6} megapixels", code="too-large")
    return header


def is_tiff_for_vips(file: Any) -> bool:
    """Whether libvips unpacks a TIFF file: not planes that lie in tiles, nor rare compressions."""
    try:
        layout, first = ifd.read_layout(file)
        entries, _ = ifd.read_directory(file, layout, first)
    except (ValueError, struct.error):
        return False
    packing, planes, samples, tile_width = (
        ifd.number(entries, tag, layout.order, usual)
        for tag, usual in ((COMPRESSION, 1), (PLANAR, 1), (SAMPLES, 1), (TILE_WIDTH, 0))
    )
    in_planes_of_tiles = planes == 2 and samples > 1 and tile_width > 0
    return packing in _UNPACKED_BY_VIPS and not in_planes_of_tiles
