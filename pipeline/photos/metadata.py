"""What travels with a photo: EXIF, GPS, XMP, IPTC and resolution, from any of JPEG, TIFF, PNG and WebP into any other.

The photo's blocks are taken as bytes, corrected for the result (upright, its size and resolution, no thumbnail of what
the photo was), and put into a file of which only the pixels have been written.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from pipeline.photos import exif, ifd, iptc
from pipeline.photos.containers import Block, jpeg_blocks, jpeg_with, png_blocks, png_with, webp_blocks, webp_with
from pipeline.photos.vips import libvips
from pipeline.photos.xmp import Provenance, with_provenance

EXIF_MARK, XMP_MARK, ICC_MARK = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
PNG_XMP = b"XML:com.adobe.xmp\0"
APP0, APP1, APP2, APP13, COMMENT = b"\xe0", b"\xe1", b"\xe2", b"\xed", b"\xfe"
SEGMENT_BYTES = 65533  # that a segment of a JPEG can hold
METRE_INCHES = 0.0254
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG, _PROFILE_TAG = 700, 33723, 34377, 34675


@dataclass(frozen=True)
class Metadata:
    """Blocks as they lay in a photo's file."""

    exif: bytes | None = None  # classic TIFF, without a mark before it
    xmp: bytes | None = None
    photoshop: bytes | None = None  # resources, IPTC-IIM among them
    dpi: tuple[float, float] | None = None  # where EXIF does not say it
    texts: tuple[Block, ...] = ()  # comments and text chunks, for results of the photo's own format
    lost: tuple[str, ...] = ()  # what could not be read


@dataclass(frozen=True)
class Result:
    """The picture that metadata go to."""

    height: int
    width: int
    scale: float  # against the photo
    grey: bool


def read_metadata(file: bytes, format_name: str) -> Metadata:
    """What a photo's file says beside its pixels; what is damaged is named in `lost`.

    Args:
        file: a photo that decodes.
        format_name: Pillow's name.
    """
    read = {"JPEG": _of_jpeg, "MPO": _of_jpeg, "PNG": _of_png, "WEBP": _of_webp, "TIFF": _of_tiff}
    try:
        return read.get(format_name, _of_others)(file)
    except Exception as error:  # damaged in one way or another; the pixels are not
        return Metadata(lost=(f"metadata-lost: {type(error).__name__}: {error}",))


def _of_jpeg(file: bytes) -> Metadata:
    found, dpi = Metadata(), None
    blocks, _ = jpeg_blocks(file)
    photoshop, texts = b"", []
    for kind, data in blocks:
        if kind == APP1 and data.startswith(EXIF_MARK) and found.exif is None:
            found = replace(found, exif=data[len(EXIF_MARK) :])
        elif kind == APP1 and data.startswith(XMP_MARK) and found.xmp is None:
            found = replace(found, xmp=data[len(XMP_MARK) :])
        elif kind == APP13 and data.startswith(iptc.PHOTOSHOP):
            photoshop += data[len(iptc.PHOTOSHOP) :]
        elif kind == APP0 and data.startswith(b"JFIF\0") and len(data) >= 12 and data[7] in (1, 2):
            per_inch = 1.0 if data[7] == 1 else 2.54
            dpi = int.from_bytes(data[8:10], "big") * per_inch, int.from_bytes(data[10:12], "big") * per_inch
        elif kind == COMMENT:
            texts.append(Block(kind, data))
    return replace(found, photoshop=iptc.carried(photoshop) or None, dpi=_sound(dpi), texts=tuple(texts))


def _of_png(file: bytes) -> Metadata:
    found = Metadata()
    texts = []
    for kind, data in png_blocks(file):
        if kind == b"eXIf":
            found = replace(found, exif=data)
        elif kind == b"iTXt" and data.startswith(PNG_XMP):
            found = replace(found, xmp=_png_text(data))
        elif kind == b"pHYs" and len(data) == 9 and data[8] == 1:
            x, y = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
            found = replace(found, dpi=_sound((x * METRE_INCHES, y * METRE_INCHES)))
        elif kind in _PNG_TEXTS:
            texts.append(Block(kind, data))
    return replace(found, texts=tuple(texts))


def _png_text(data: bytes) -> bytes:
    flags, rest = data[len(PNG_XMP)], data[len(PNG_XMP) + 2 :]
    text = rest.split(b"\0", 2)[2]
    return zlib.decompress(text) if flags else text


def _of_webp(file: bytes) -> Metadata:
    blocks = {block.kind: block.data for block in webp_blocks(file)}
    block = blocks.get(b"EXIF")
    return Metadata(block.removeprefix(EXIF_MARK) if block else None, blocks.get(b"XMP "))


def _of_tiff(file: bytes) -> Metadata:
    source = io.BytesIO(file)
    layout, first = ifd.read_layout(source)
    root, _ = ifd.read_directory(source, layout, first)
    resources = iptc.carried(ifd.value(root, _PHOTOSHOP_TAG) or b"", _iptc_of(root, layout.order))
    return Metadata(exif.from_tiff(file), ifd.value(root, _XMP_TAG), resources or None)


def _iptc_of(root: list[ifd.Entry], order: str) -> bytes | None:
    """IPTC-IIM in TIFF: bytes, though many writers call them numbers of four bytes."""
    entry = next((entry for entry in root if entry.tag == _IPTC_TAG), None)
    return (
        ifd.turned(entry, order, ">").data if entry is not None and entry.data[:1] != b"\x1c" else entry and entry.data
    )


def _of_others(file: bytes) -> Metadata:
    with Image.open(io.BytesIO(file)) as image:
        info: dict[str, Any] = {str(name): value for name, value in image.info.items()}
    block, packet = info.get("exif"), info.get("xmp")
    return Metadata(block.removeprefix(EXIF_MARK) if block else None, packet or None, dpi=_sound(info.get("dpi")))


def _sound(dpi: Any) -> tuple[float, float] | None:
    return (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 1 else None


def finished(
    file: io.BytesIO, format_name: str, carried: Metadata, result: Result, story: Provenance
) -> tuple[bytes, list[str]]:
    """A picture's file with its metadata, and what could not be carried over, as a row's warnings.

    Args:
        file: as `encode` writes it.
        format_name: a key of `encode.FORMATS`.
        carried: the photo's.
        result: the picture.
        story: how it was made.
    """
    lost = list(carried.lost)
    block = _corrected(carried.exif, result, lost)
    dpi = (carried.dpi[0] * result.scale, carried.dpi[1] * result.scale) if carried.dpi else None
    no_place = format_name in ("png", "webp")
    texts = iptc.texts(iptc.of(carried.photoshop) or b"") if carried.photoshop and no_place else {}
    size = result.height, result.width, result.scale
    try:
        packet = with_provenance(carried.xmp, story, *size, texts)
    except ValueError as error:
        lost.append(f"metadata-lost: {error}")
        packet = with_provenance(None, story, *size, texts)
    profile = None if result.grey else libvips().Image.profile_load("srgb")
    if format_name == "tiff":
        _finish_tiff(file, block, packet, carried.photoshop, profile, dpi)
        return file.getvalue(), lost
    if dpi:
        block = exif.with_resolution(block, dpi)
    data = file.getvalue()
    if format_name == "webp":
        sides = {"height": result.height, "width": result.width}
        return webp_with(data, **sides, profile=profile, exif=block, xmp=packet), lost
    if format_name == "png":
        texts_here = [text for text in carried.texts if text.kind in _PNG_TEXTS]
        return png_with(data, _png_metadata(block, packet, profile, dpi, texts_here), without=[b"pHYs"]), lost
    comments = [text for text in carried.texts if text.kind == COMMENT]
    return jpeg_with(data, _jpeg_metadata(block, packet, carried.photoshop, profile, dpi, comments, lost)), lost


def _corrected(block: bytes | None, result: Result, lost: list[str]) -> bytes | None:
    if block is None:
        return None
    try:
        return exif.corrected(block, result.height, result.width, result.scale)
    except ValueError as error:
        lost.append(f"metadata-lost: EXIF: {error}")
        return None


def _jpeg_metadata(
    block: bytes | None,
    packet: bytes,
    photoshop: bytes | None,
    profile: bytes | None,
    dpi: tuple[float, float] | None,
    comments: list[Block],
    lost: list[str],
) -> list[Block]:
    x, y = (round(value) if value < 65536 else 1 for value in dpi or (1, 1))
    jfif = b"JFIF\0\1\2" + bytes([1 if dpi else 0]) + x.to_bytes(2, "big") + y.to_bytes(2, "big") + b"\0\0"
    wanted = [
        ("EXIF", Block(APP1, EXIF_MARK + block) if block else None),
        ("XMP", Block(APP1, XMP_MARK + packet)),
        ("Photoshop's resources", Block(APP13, iptc.PHOTOSHOP + photoshop) if photoshop else None),
        ("the profile", Block(APP2, ICC_MARK + b"\1\1" + profile) if profile else None),
    ]
    out = [Block(APP0, jfif)]
    for name, segment in wanted:
        if segment is not None and len(segment.data) > SEGMENT_BYTES:
            lost.append(f"metadata-lost: {name} of {len(segment.data)} bytes, which JPEG has no room for")
        elif segment is not None:
            out.append(segment)
    return out + comments


def _png_metadata(
    block: bytes | None, packet: bytes, profile: bytes | None, dpi: tuple[float, float] | None, texts: list[Block]
) -> list[Block]:
    out = [Block(b"iCCP", b"sRGB\0\0" + zlib.compress(profile, 9))] if profile else []
    if dpi:
        x, y = (round(value / METRE_INCHES).to_bytes(4, "big") for value in dpi)
        out.append(Block(b"pHYs", x + y + b"\1"))
    if block:
        out.append(Block(b"eXIf", block))
    return [*out, Block(b"iTXt", PNG_XMP + b"\0\0\0\0" + packet), *texts]


def _finish_tiff(
    file: io.BytesIO,
    block: bytes | None,
    packet: bytes,
    photoshop: bytes | None,
    profile: bytes | None,
    dpi: tuple[float, float] | None,
) -> None:
    extra = [(_XMP_TAG, ifd.BYTE, packet)]
    if photoshop:
        extra.append((_PHOTOSHOP_TAG, ifd.UNDEFINED, photoshop))
        if datasets := iptc.of(photoshop):
            extra.append((_IPTC_TAG, ifd.UNDEFINED, datasets))
    if profile:
        extra.append((_PROFILE_TAG, ifd.UNDEFINED, profile))
    exif.append_to_tiff(file, block, dpi, extra)
