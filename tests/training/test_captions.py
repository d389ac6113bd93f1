from __future__ import annotations

import numpy as np
import pytest

from supir_core.conditioning import join_prompt
from supir_core.networks.text import PROMPT_TOKENS, Tokenizer
from supir_core.presets import load_preset
from training import captions
from training.pictures import draw


@pytest.mark.parametrize(
    ("color", "words"),
    [
        ((250, 250, 250), "bright grey tones"),
        ((20, 20, 20), "dark grey tones"),
        ((150, 110, 80), "brown tones"),
        ((60, 90, 40), "dark green tones"),
        ((100, 130, 190), "blue tones"),
    ],
)
def test_tones_are_named(color: tuple[int, int, int], words: str) -> None:
    assert captions.tones(np.full((16, 16, 3), color, np.uint8)) == words


def test_clean_captions_are_mixed() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    suffix = load_preset("demo").text.positive
    made = [captions.for_clean("leaves.", rng) for _ in range(2000)]
    assert set(made) == {"", "leaves.", "leaves." + suffix, suffix}
    assert made.count("") / 2000 == pytest.approx(captions.EMPTY_SHARE, abs=0.03)


def test_degraded_captions_are_the_negative_prompt() -> None:
    assert captions.for_degraded() == load_preset("demo").text.negative


def test_damage_is_described() -> None:
    assert captions.with_damage("leaves, sharp.", "noisy") == "leaves, sharp, noisy."
    assert captions.with_damage("", "noisy") == "noisy."


def test_captions_fit_with_their_suffix() -> None:
    """Nothing is cut, and they are joined as for restoring."""
    tokenizer, suffix = Tokenizer(), captions.positive()
    for seed in range(40):
        caption = draw(seed, 32).caption
        assert tokenizer.count(caption + suffix) <= PROMPT_TOKENS, caption
        assert join_prompt(tokenizer, caption, suffix) == (caption + suffix, False)
