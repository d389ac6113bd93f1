"""Restored pictures -> files, in kind."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.photos.decode import decode
from pipeline.photos.encode import (
    CLASSIC_TIFF_BYTES,
    EXTENSIONS,
    FORMATS,
    bits_of,
    check_fits,
    extension_of,
    format_of,
    pixel_bytes,
)
from pipeline.photos.encode import encode as photo_encode
from supir_core.errors import PhotoError
from tests.pipeline.photographs import picture

PIXELS = np.asarray(picture(48, 80))
IMAGE = np.ascontiguousarray(PIXELS.transpose(2, 0, 1)).astype(np.float32) / 127.5 - 1
ALPHA = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)


def encode(*args: Any, **options: Any) -> bytes:
    return photo_encode(*args, **options).getvalue()


def read(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_holds_the_picture(name: str) -> None:
    image = read(encode(IMAGE, name))
    assert image.format == FORMATS[name].pillow_name
    assert (image.size, image.mode) == ((80, 48), "RGB")
    worst = np.abs(np.asarray(image).astype(int) - PIXELS).max()
    assert worst == 0 if name in ("png", "tiff") else worst < 24


@pytest.mark.parametrize("name", FORMATS)
def test_grey_stays_grey(name: str) -> None:
    image = read(encode(IMAGE, name, grey=True))
    if name == "webp":  # has no grey of its own
        channels = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(channels[..., 0] - channels[..., 2]).max() <= 2
    else:
        assert image.mode == "L"


@pytest.mark.parametrize(("name", "grey", "mode"), [("png", False, "RGBA"), ("png", True, "LA"), ("tiff", True, "LA")])
def test_alpha_comes_back_at_the_size_of_the_picture(name: str, grey: bool, mode: str) -> None:
    image = read(encode(IMAGE, name, grey=grey, alpha=ALPHA))
    assert (image.size, image.mode) == ((80, 48), mode)
    alpha = np.asarray(image.getchannel("A"))
    assert alpha[0, 0] < 5 and alpha[-1, -1] > 250


@pytest.mark.parametrize("name", ["webp", "tiff"])
def test_alpha_in_the_other_formats(name: str) -> None:
    assert read(encode(IMAGE, name, alpha=ALPHA)).mode == "RGBA"


def test_jpeg_drops_alpha() -> None:
    assert read(encode(IMAGE, "jpeg", alpha=ALPHA)).mode == "RGB"


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_picture_is_the_same_bytes(name: str) -> None:
    assert encode(IMAGE, name, alpha=ALPHA) == encode(IMAGE.copy(), name, alpha=ALPHA.copy())


def test_a_picture_too_large_for_its_format_is_refused_before_it_is_computed() -> None:
    check_fits(16383, 16383, "webp")
    check_fits(20000, 20000, "png")
    with pytest.raises(PhotoError, match="16383") as error:
        check_fits(100, 16384, "webp")
    assert error.value.code == "output-limit"


@pytest.mark.parametrize(
    ("side", "channels", "bits", "big"),
    [(20000, 3, 16, False), (20000, 4, 16, False), (26000, 3, 16, False), (27000, 3, 16, True), (23000, 4, 16, True),
     (37000, 3, 8, False), (38000, 3, 8, True)],
)  # fmt: skip
def test_tiff_files_that_may_exceed_four_gigabytes_are_planned_as_bigtiff(
    side: int, channels: int, bits: int, big: bool
) -> None:
    planned = pixel_bytes(side, side, channels, bits)
    assert (planned > CLASSIC_TIFF_BYTES) == big
    assert big or planned + 2**25 < 2**32  # with room for what packing adds, and for metadata


@pytest.mark.parametrize(("limit", "magic"), [(0, b"II+\0"), (CLASSIC_TIFF_BYTES, b"II*\0")])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_bigtiff_holds_the_same_picture(limit: int, magic: bytes, bits: int) -> None:
    data = encode(IMAGE, "tiff", bits=bits, alpha=ALPHA, classic_tiff_bytes=limit)
    assert data[:4] == magic
    decoded, classic = decode(data), decode(encode(IMAGE, "tiff", bits=bits, alpha=ALPHA))
    assert decoded.bits == bits and (decoded.pixels == classic.pixels).all()
    assert decoded.alpha is not None and classic.alpha is not None and (decoded.alpha == classic.alpha).all()


def test_every_extension_names_a_format() -> None:
    assert set(EXTENSIONS.values()) == set(FORMATS)
    assert all(EXTENSIONS[chosen.extension] == name for name, chosen in FORMATS.items())


@pytest.mark.parametrize("name", ["png", "tiff"])
@pytest.mark.parametrize("grey", [False, True])
def test_sixteen_bits_are_rounded_once(name: str, grey: bool) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(-1.1, 1.1, (3, 40, 50)).astype(np.float32)
    if grey:
        image[1:] = image[0]
    decoded = decode(encode(image, name, bits=16, grey=grey))
    exact = np.rint(image.clip(-1, 1).astype(np.float64) * 32767.5 + 32767.5).transpose(1, 2, 0)
    assert (decoded.bits, decoded.grey) == (16, grey)
    assert np.abs(decoded.pixels - exact).max() <= 1


def test_sixteen_bits_of_alpha() -> None:
    decoded = decode(encode(IMAGE, "tiff", bits=16, alpha=ALPHA))
    assert decoded.alpha is not None and len(np.unique(decoded.alpha)) > 256


def test_quality_is_a_choice() -> None:
    sizes = [len(encode(IMAGE, "jpeg", quality=quality)) for quality in (50, 95, 100)]
    assert sizes == sorted(sizes) and len(set(sizes)) == 3
    assert encode(IMAGE, "jpeg") == encode(IMAGE, "jpeg", quality=95)
    assert len(encode(IMAGE, "webp", quality=30)) < len(encode(IMAGE, "webp"))


def test_each_photo_can_keep_its_format() -> None:
    kept = {"JPEG": "jpeg", "MPO": "jpeg", "TIFF": "tiff", "WEBP": "webp", "PNG": "png", "GIF": "png", "HEIF": "png"}
    assert {source: format_of("keep", source) for source in kept} == kept
    assert format_of("tiff", "JPEG") == "tiff"
    assert extension_of("keep", "TIFF") == "tif"
    assert len(extension_of("keep", None)) == max(len(chosen.extension) for chosen in FORMATS.values())


def test_depth_follows_the_photo_where_the_format_can() -> None:
    depths = {(name, bits): bits_of(name, bits) for name in FORMATS for bits in (1, 8, 10, 16)}
    deep = {key for key, bits in depths.items() if bits == 16}
    assert deep == {("png", 10), ("png", 16), ("tiff", 10), ("tiff", 16)}
