"""Restored pictures -> files, in kind."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.photos.encode import EXTENSIONS, FORMATS, check_fits, encode
from supir_core.errors import PhotoError
from tests.pipeline.photographs import picture

PIXELS = np.asarray(picture(48, 80))
ALPHA = np.linspace(0, 255, 24 * 40).reshape(24, 40).astype(np.uint8)


def read(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_holds_the_picture(name: str) -> None:
    image = read(encode(PIXELS, name))
    assert image.format == FORMATS[name].pillow_name
    assert (image.size, image.mode) == ((80, 48), "RGB")
    worst = np.abs(np.asarray(image).astype(int) - PIXELS).max()
    assert worst == 0 if name in ("png", "tiff") else worst < 24


@pytest.mark.parametrize("name", FORMATS)
def test_grey_stays_grey(name: str) -> None:
    image = read(encode(PIXELS, name, grey=True))
    if name == "webp":  # has no grey of its own
        channels = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(channels[..., 0] - channels[..., 2]).max() <= 2
    else:
        assert image.mode == "L"


@pytest.mark.parametrize(("name", "grey", "mode"), [("png", False, "RGBA"), ("png", True, "LA"), ("tiff", True, "LA")])
def test_alpha_comes_back_at_the_size_of_the_picture(name: str, grey: bool, mode: str) -> None:
    image = read(encode(PIXELS, name, grey=grey, alpha=ALPHA))
    assert (image.size, image.mode) == ((80, 48), mode)
    alpha = np.asarray(image.getchannel("A"))
    assert alpha[0, 0] < 5 and alpha[-1, -1] > 250


@pytest.mark.parametrize("name", ["webp", "tiff"])
def test_alpha_in_the_other_formats(name: str) -> None:
    assert read(encode(PIXELS, name, alpha=ALPHA)).mode == "RGBA"


def test_jpeg_drops_alpha() -> None:
    assert read(encode(PIXELS, "jpeg", alpha=ALPHA)).mode == "RGB"


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_picture_is_the_same_bytes(name: str) -> None:
    assert encode(PIXELS, name, alpha=ALPHA) == encode(PIXELS.copy(), name, alpha=ALPHA.copy())


def test_a_picture_too_large_for_its_format_is_refused_before_it_is_computed() -> None:
    check_fits(16383, 16383, "webp")
    check_fits(20000, 20000, "png")
    with pytest.raises(PhotoError, match="16383") as error:
        check_fits(100, 16384, "webp")
    assert error.value.code == "output-limit"


def test_every_extension_names_a_format() -> None:
    assert set(EXTENSIONS.values()) == set(FORMATS)
    assert all(EXTENSIONS[chosen.extension] == name for name, chosen in FORMATS.items())
