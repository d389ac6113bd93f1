"""Photo files -> upright 16-bit sRGB arrays, and what is needed to write the result in kind.

libvips decodes, as strictly as it can; Pillow decodes what libvips cannot. A file of which a part is missing or wrong
is `damaged`: a diffusion model would invent that part.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipeline.photos.damage import END_OF_JPEG, DamagedPhotoError, damage, has_data_left, whole_rows
from pipeline.photos.header import Header, is_tiff_for_vips, opened, read_header
from pipeline.photos.srgb import PROFILE, PROFILE_IGNORED, Colours, upright_srgb
from pipeline.photos.vips import image_of, libvips
from supir_core.errors import PhotoError

LIBVIPS, PILLOW = "libvips", "Pillow"
_PLAIN_MODES = {"L": "b-w", "LA": "b-w", "RGB": "srgb", "RGBA": "srgb", "CMYK": "cmyk"}
_PILLOW_ALONE = ("BMP", "HEIF", "JPEG2000")
_JPEG = ("JPEG", "MPO")


@dataclass(frozen=True)
class Decoded:
    """One photo, upright."""

    pixels: np.ndarray  # (H, W, 3) uint16, sRGB
    alpha: np.ndarray | None  # (H, W) uint16
    grey: bool  # the photo has no colour, nor shall the result
    format: str  # Pillow's name
    mode: str  # Pillow's name
    bits: int  # per sample, in the file
    pages: int  # of which this is the first
    whole: float | None  # the share of rows before the first damage; None: nobody knows where it is
    warnings: list[str]

    @property
    def header(self) -> Header:
        """What its file says of itself, upright."""
        return Header(self.height, self.width, self.format, self.mode, self.bits)

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return int(self.pixels.shape[1])


def decode(data: bytes, *, accept_damaged: bool = False) -> Decoded:
    """Decode the bytes of a photo file; the content decides the format, whatever the file's name.

    Args:
        data: the file.
        accept_damaged: give what can be decoded of a damaged photo, with the warning `damaged`.

    Raises:
        DamagedPhotoError: a part of it is missing or wrong (`damaged`).
        PhotoError: as `read_header`, or `corrupt`, `out-of-memory`.
    """
    header = read_header(io.BytesIO(data))
    warnings: list[str] = []
    with opened(io.BytesIO(data), data[: 2**16]) as image:
        pages = int(getattr(image, "n_frames", 1)) if image is not None else 1
        colours = _whole(data, header, image, warnings)
    whole: float | None = 1.0
    if colours is None:
        rows = whole_rows(data)
        whole = rows if rows < 1 else None
        if not accept_damaged:
            _leniently(data, [])  # which must be able to give something
            raise DamagedPhotoError(whole)
        warnings.append(f"damaged: {damage(whole)}")
        colours = _leniently(data, warnings)
    if pages > 1:
        warnings.append("first-page-only")
    return Decoded(*colours, header.format, header.mode, header.bits, pages, whole, [*dict.fromkeys(warnings)])


def decoder_of(data: bytes, header: Header) -> str:
    """Who decodes a file: libvips, or Pillow where libvips lacks the format or the kind."""
    rare_tiff = header.format == "TIFF" and not is_tiff_for_vips(io.BytesIO(data))
    return PILLOW if header.format in _PILLOW_ALONE or header.mode == "LAB" or rare_tiff else LIBVIPS


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Uint16 as uint8, rounded: what was 8 bits once is so again."""
    rounded = pixels // 257
    rounded += pixels - rounded * 257 > 128
    return rounded.astype(np.uint8)


def _whole(data: bytes, header: Header, image: Image.Image | None, warnings: list[str]) -> Colours | None:
    """The photo, if all of it is there; None if it is damaged."""
    if decoder_of(data, header) == PILLOW:
        return _by_pillow(data, header, image, warnings)
    try:
        strict = image_of(data, "warning")
    except libvips().Error:  # of what lies before the pixels: metadata, mostly
        if header.format in _JPEG:
            return _beside_the_picture(data, header, warnings)
        return _complained_of(data, header, image, warnings)
    if image is not None and image.info.get("icc_profile") and not strict.get_typeof(PROFILE):
        warnings.append(PROFILE_IGNORED)  # by libpng
    try:
        colours = upright_srgb(strict, warnings)
    except libvips().Error:
        return _beside_the_picture(data, header, warnings)
    if header.format not in _JPEG:
        return colours
    return colours if whole_rows(data) == 1 and not has_data_left(data) else _mended(data, header, warnings)


def _by_vips(data: bytes, fail_on: str, warnings: list[str]) -> Colours:
    return upright_srgb(image_of(data, fail_on), warnings)


def _by_pillow(data: bytes, header: Header, image: Image.Image | None, warnings: list[str]) -> Colours:
    if image is None:
        raise PhotoError("a TIFF file with a rare compression; write it as plain or LZW", code="unsupported-format")
    if header.bits > 8 and len(image.getbands()) > 1:
        if header.format == "HEIF":
            return _deep_heif(data, warnings)
        what = f"{header.bits} bits per channel in a file of which only 8 can be read"
        raise PhotoError(what, hint="convert it to plain TIFF", code="unsupported-depth")
    image.load()
    return upright_srgb(_from_pillow(image), warnings)


def _complained_of(data: bytes, header: Header, image: Image.Image | None, warnings: list[str]) -> Colours | None:
    """A photo whose head libvips complains about: Pillow has the last word on that, but not on the pixels' depth."""
    if image is None:
        return None
    try:
        colours = _by_pillow(data, header, image, warnings)
    except (PhotoError, MemoryError):
        raise
    except Exception:
        return None
    warnings.append("decoder-complained")
    return colours


def _beside_the_picture(data: bytes, header: Header, warnings: list[str]) -> Colours | None:
    """A JPEG of which a complaint tells, if that is of something else than its picture."""
    if header.format not in _JPEG or whole_rows(data) < 1 or has_data_left(data):
        return _mended(data, header, warnings)
    warnings.append("decoder-complained")
    return _leniently(data, warnings)


def _mended(data: bytes, header: Header, warnings: list[str]) -> Colours | None:
    """A JPEG that lacks its last two bytes, and nothing else."""
    if header.format not in _JPEG or data.endswith(END_OF_JPEG):
        return None
    ended = data + END_OF_JPEG
    if whole_rows(ended) < 1:
        return None
    colours = _by_vips(ended, "warning", warnings)
    warnings.append("end-missing")
    return colours


def _from_pillow(image: Image.Image) -> Any:
    """Pillow's pixels, upright, as a pyvips image with their profile."""
    upright = ImageOps.exif_transpose(image)
    profile = upright.info.get("icc_profile")
    if upright.mode.startswith("I"):
        values = np.asarray(upright).astype(np.int64).clip(0, 65535).astype(np.uint16)
        return libvips().Image.new_from_array(values).copy(interpretation="grey16")
    if upright.mode == "F":
        return libvips().Image.new_from_array(np.asarray(upright)).copy(interpretation="b-w")
    if upright.mode not in _PLAIN_MODES:
        plain = "L" if upright.mode == "1" else "RGBA" if upright.has_transparency_data else "RGB"
        upright, profile = upright.convert(plain), profile if upright.mode == "P" else None
    out = libvips().Image.new_from_array(np.asarray(upright))
    out = out.copy(interpretation=_PLAIN_MODES[upright.mode])
    if profile:
        out.set_type(libvips().GValue.blob_type, PROFILE, profile)
    return out


def _deep_heif(data: bytes, warnings: list[str]) -> Colours:
    """HEIC of 10 or 12 bits: Pillow's plug-in turns it upright by itself."""
    import pillow_heif  # noqa: PLC0415  # there only with the extra

    heif = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    values = np.asarray(heif)
    image = libvips().Image.new_from_array(np.ascontiguousarray(values)).copy(interpretation="rgb16")
    if heif.info.get("icc_profile"):
        image.set_type(libvips().GValue.blob_type, PROFILE, heif.info["icc_profile"])
    return upright_srgb(image, warnings)


def _leniently(data: bytes, warnings: list[str]) -> Colours:
    try:
        return _by_vips(data, "none", warnings)
    except libvips().Error as error:
        raise PhotoError(f"cannot be decoded: {str(error).strip().splitlines()[-1]}", code="corrupt") from error
