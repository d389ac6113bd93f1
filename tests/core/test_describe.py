"""Descriptions by rule: pictures whose properties are known, because they were made with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from supir_core.caption_text import clean
from supir_core.describe import describe
from supir_core.networks.text import PROMPT_TOKENS, Tokenizer
from supir_core.presets import load_preset


def texture(height: int = 120, width: int = 180, low: int = 0, high: int = 256, seed: int = 0) -> np.ndarray:
    """Grey blocks of 6 pixels, with sharp edges."""
    levels = np.random.default_rng(seed).integers(low, high, (-(-height // 6), -(-width // 6)), dtype=np.uint16)
    grey = np.kron(levels, np.ones((6, 6)))[:height, :width].astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def tinted(red: float, green: float, blue: float) -> np.ndarray:
    return (texture() * np.array([red, green, blue])).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (80, 120, "landscape, tiny"),
        (360, 240, "portrait, 0.1 MP"),
        (300, 302, "square, 0.1 MP"),
        (2000, 2000, "square, 4 MP"),
    ],
)
def test_the_shape(height: int, width: int, expected: str) -> None:
    assert expected in describe(texture(height, width))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 256, ", tiny, greyscale"),
        (0, 100, ", dark, greyscale"),
        (0, 60, ", dark, low contrast,"),
        (150, 256, ", bright, greyscale"),
        (100, 140, ", tiny, low contrast,"),
    ],
)
def test_the_tone(low: int, high: int, expected: str) -> None:
    assert expected in describe(texture(low=low, high=high))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (texture(), "greyscale"),
        (tinted(1, 0.8, 0.55), "sepia"),
        (tinted(1, 0.1, 0.1), ", red"),
        (tinted(0.1, 0.2, 1), ", blue"),
        (tinted(0.1, 1, 0.1), ", green"),
        (np.hstack([tinted(1, 0.1, 0.1), tinted(1, 0.1, 0.1), tinted(0.1, 0.2, 1)]), ", red and blue,"),
    ],
)
def test_the_colours(picture: np.ndarray, expected: str) -> None:
    assert expected in describe(picture)


@pytest.mark.parametrize(("blur_px", "expected"), [(0, ", sharp."), (0.8, ", slightly soft."), (2, ", soft.")])
def test_the_edges(blur_px: float, expected: str) -> None:
    blurred = np.asarray(Image.fromarray(texture()).filter(ImageFilter.GaussianBlur(blur_px)))
    assert describe(blurred).endswith(expected)


def test_a_flat_picture_has_no_edges() -> None:
    assert describe(np.full((40, 40, 3), 128, np.uint8)).endswith("low contrast, greyscale, no edges.")


@settings(max_examples=40)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_any_picture_has_one_line_that_says_that_it_measures_and_stays_as_it_is(h: int, w: int, seed: int) -> None:
    pixels = np.random.RandomState(seed).randint(0, 256, (h, w, 3), np.uint8)
    before = pixels.copy()
    line = describe(pixels)
    assert line.startswith("Measured: ")
    assert line == describe(pixels) == clean(line)
    assert np.array_equal(pixels, before)


def test_the_longest_one_has_room_beside_the_words_of_the_demo_preset() -> None:
    halves = [texture(240, 360) * np.array(colour) for colour in ((0.2, 0.12, 0.02), (0.2, 0.19, 0.02))]
    picture = Image.fromarray(np.hstack(halves).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    line = describe(np.asarray(picture))
    assert line == "Measured: landscape, 0.2 MP, dark, low contrast, yellow and orange, slightly soft."
    assert Tokenizer().count(line + load_preset("demo").text.positive) <= PROMPT_TOKENS
