"""Decoded pixels of any kind -> upright sRGB of 16 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pipeline.photos.vips import libvips
from supir_core.errors import PhotoError

PROFILE = "icc-profile-data"
_SPACES = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}  # what a profile must be for, by the number of channels
PROFILE_IGNORED = "colour-profile-ignored"


class Colours(NamedTuple):
    """An upright picture."""

    pixels: np.ndarray  # (H, W, 3) uint16, sRGB
    alpha: np.ndarray | None  # (H, W) uint16
    grey: bool  # it has no colour


def upright_srgb(image: Any, warnings: list[str]) -> Colours:
    """The pixels of a pyvips image, decoded now, row by row.

    Sums of 16-bit channels are exact: what is sRGB already, in 8 or 16 bits, comes out as it went in.

    Args:
        image: of any depth, mode, profile and orientation.
        warnings: gets what a user should know.

    Raises:
        pyvips.Error: the decoder complained.
        PhotoError: `unsupported-depth` or `unsupported-format`.
    """
    if image.get_typeof("orientation") and image.get("orientation") > 1:
        image = image.copy_memory()  # turning reads the rows in another order
    image = image.autorot()
    channels, alpha = image.bands, None
    if image.hasalpha():
        alpha = image[image.bands - 1]
        image = image.extract_band(0, n=image.bands - 1)
    if image.bands not in _SPACES or (image.bands == 4 and image.interpretation != "cmyk"):
        raise PhotoError(f"a picture of {channels} channels; convert it to RGB", code="unsupported-format")
    grey = image.bands == 1
    image = _unit_floats(image, warnings)
    deep = image.format == "ushort"
    if not deep and image.format != "uchar":
        raise PhotoError(f"pixels of the type {image.format}; convert it to 16 bits", code="unsupported-depth")
    by_profile = _by_profile(image, warnings)
    source = image if by_profile is None else by_profile
    with_alpha = source if alpha is None else source.bandjoin(_like(alpha, source))
    values = _array(with_alpha)
    if alpha is not None:
        values, alpha = values[..., :-1], _widened(np.ascontiguousarray(values[..., -1]))
    if source.interpretation == "cmyk":
        values = _ink_to_rgb(values)
    pixels = _widened(values)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    grey = grey or bool(
        np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2])
    )
    return Colours(np.ascontiguousarray(pixels), alpha, grey)


def _unit_floats(image: Any, warnings: list[str]) -> Any:
    """Floats from 0 to 1 as 16 bits; three channels of them are linear light, as libvips and most writers take it."""
    if image.format not in ("float", "double"):
        return image
    if image.bands == 3 and image.interpretation == "scrgb":
        warnings.append("float-taken-as-linear")
        return image.colourspace("rgb16")
    in_memory = image.copy_memory()
    if in_memory.min() < 0 or in_memory.max() > 1:
        raise PhotoError("floating-point values beyond 0 to 1; convert it to 16 bits", code="unsupported-depth")
    return (in_memory * 65535).rint().cast("ushort").copy(interpretation="grey16" if image.bands == 1 else "rgb16")


def _by_profile(image: Any, warnings: list[str]) -> Any:
    """The picture in sRGB by its colour profile; None if it has none that is of use."""
    if not image.get_typeof(PROFILE):
        return None
    profile = image.get(PROFILE)
    if not is_profile(profile, image.bands):
        warnings.append(PROFILE_IGNORED)
        return None
    try:
        _transformed(image.copy_memory() if image.width * image.height < 64 else _swatch(image))
    except libvips().Error:  # a profile that only looks like one
        warnings.append(PROFILE_IGNORED)
        return None
    return _transformed(image)


def is_profile(profile: bytes, channels: int) -> bool:
    """Whether these bytes look like a colour profile for so many channels."""
    return len(profile) > 128 and profile[36:40] == b"acsp" and profile[16:20] == _SPACES.get(channels)


def _swatch(image: Any) -> Any:
    """A few pixels of the same kind, to try a profile with: the picture's own can be read only once."""
    black = libvips().Image.black(8, 8, bands=image.bands).cast(image.format)
    swatch = black.copy(interpretation=image.interpretation)
    swatch.set_type(libvips().GValue.blob_type, PROFILE, image.get(PROFILE))
    return swatch


def _transformed(image: Any) -> Any:
    out = image.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True, depth=16)
    if out.width <= 8:
        out.numpy()  # libvips finds out what is wrong with a profile when it computes
    return out


def _like(alpha: Any, source: Any) -> Any:
    """Alpha in the depth of the colours that it is joined to."""
    if alpha.format == source.format:
        return alpha
    if alpha.format in ("float", "double"):
        return (alpha * (65535 if source.format == "ushort" else 255)).rint().cast(source.format)
    return (alpha * 257 if source.format == "ushort" else alpha / 257).cast(source.format)


def _array(image: Any) -> np.ndarray:
    """(H, W, C) of the image's type."""
    values: np.ndarray = np.atleast_3d(image.numpy())
    return values


def _widened(values: np.ndarray) -> np.ndarray:
    """8 bits as 16: 255 becomes 65535."""
    return values if values.dtype == np.uint16 else np.multiply(values, 257, dtype=np.uint16)


def _ink_to_rgb(ink: np.ndarray) -> np.ndarray:
    """CMYK without a profile: (1 - C)(1 - K) and so on, as most programs show it."""
    top = np.float32(np.iinfo(ink.dtype).max)
    left = 1 - ink.astype(np.float32) / top
    rgb: np.ndarray = np.rint(left[..., :3] * left[..., 3:] * 65535).astype(np.uint16)
    return rgb
