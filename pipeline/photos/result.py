"""A restored photo's file: the same from one photo on the command line as from a run over an archive."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import numpy as np

from pipeline.photos.decode import Decoded
from pipeline.photos.encode import bits_of, encode, encoding_warnings
from pipeline.photos.metadata import Result, finished, read_metadata
from pipeline.photos.xmp import Provenance


class Finished(NamedTuple):
    """A file, ready to be written."""

    data: bytes
    bits: int  # per sample
    warnings: list[str]  # what a user should know of what it lacks


@lru_cache(1)
def libraries() -> str:
    """What decodes, computes and encodes, with versions."""
    names = ("torch", "pyvips", "pyvips-binary", "pillow")
    return ", ".join(f"{name} {version(name)}" for name in names if _is_installed(name))


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:  # libvips may be the system's own
        return False


def finish(
    image: np.ndarray, photo: Decoded, file: bytes, format_name: str, quality: int | None, story: Provenance
) -> Finished:
    """The file of a result, in kind, with the photo's metadata and what has become of it.

    Args:
        image: (3, H, W) float32 in [-1, 1].
        photo: as decoded.
        file: the photo's.
        format_name: a key of `encode.FORMATS`.
        quality: of JPEG and WebP; None for the format's own.
        story: how the result was made.
    """
    bits = bits_of(format_name, photo.bits)
    encoded = encode(image, format_name, bits=bits, grey=photo.grey, alpha=photo.alpha, quality=quality)
    height, width = image.shape[1:]
    result = Result(height, width, height / photo.height, photo.grey)
    data, lost = finished(encoded, format_name, read_metadata(file, photo.format), result, story)
    return Finished(data, bits, encoding_warnings(format_name, photo.alpha, photo.bits) + lost)
