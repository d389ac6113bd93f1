"""Captions: of what was painted, of damage, and as training needs them."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from supir_core.presets import Text, load_preset

PRESET = "demo"
EMPTY_SHARE = 0.1  # captions left out, so that guidance has something to start from
SUFFIX_SHARE = 0.6  # captions that end with the preset's positive words
ONLY_SUFFIX_SHARE = 0.2  # of those: nothing but these words, as for a photo without a caption
MOST_WORDS = 15  # and commas, so that caption and suffix fit into CLIP's 75 tokens


def compose(parts: Sequence[str], pixels: np.ndarray) -> str:
    """A caption such as `overlapping leaves, a brick wall, dark brown tones.`.

    Args:
        parts: what was painted, the most important first; what is too much is left out.
        pixels: (H, W, 3) uint8, for its tones.
    """
    said, words = [], _words(tones(pixels))
    for part in parts:
        if words + _words(part) <= MOST_WORDS:
            said.append(part)
            words += _words(part)
    return ", ".join([*said, tones(pixels)]) + "."


def _words(part: str) -> int:
    return len(part.split()) + 1


def tones(pixels: np.ndarray) -> str:
    """Brightness and main hue in words."""
    mean = pixels[::4, ::4].reshape(-1, 3).mean(axis=0) / 255
    brightness = "dark " if mean.mean() < 0.36 else "bright " if mean.mean() > 0.6 else ""
    chroma = float(np.ptp(mean))
    if chroma < 0.03:
        return f"{brightness}grey tones"
    red, green, blue = (mean - mean.min()) / chroma
    if red == 1:
        name = ("purple" if blue > green else "brown") if max(green, blue) < 0.75 else "yellow" if green else "purple"
    elif green == 1:
        name = "green" if blue < 0.6 else "teal"
    else:
        name = "blue" if max(red, green) < 0.8 else "violet" if red > green else "teal"
    return f"{brightness}{name} tones"


def with_damage(caption: str, words: str) -> str:
    """The caption of a damaged picture that is to be described honestly."""
    return ", ".join(part for part in (caption.removesuffix("."), words) if part) + "."


def for_clean(caption: str, rng: np.random.Generator) -> str:
    """The training caption of a clean picture: with the preset's positive words, without, or empty.

    The words are joined as `supir_core.conditioning.join_prompt` does it.
    """
    if rng.random() < EMPTY_SHARE:
        return ""
    if rng.random() >= SUFFIX_SHARE:
        return caption
    return ("" if rng.random() < ONLY_SUFFIX_SHARE else caption) + positive()


def for_degraded() -> str:
    """The training caption of a picture that shows what to stay away from: exactly the preset's negative prompt."""
    return _text().negative


def positive() -> str:
    """The words that a preset adds to every caption."""
    return _text().positive


@functools.cache
def _text() -> Text:
    return load_preset(PRESET).text
