"""Answers of models -> captions: what goes, what stays, and how much of it CLIP can take."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supir_core.caption_text import LONGEST_ANSWER, clean, clean_to_fit, fit
from supir_core.conditioning import join_prompt
from supir_core.networks.text import PROMPT_TOKENS, Tokenizer
from supir_core.presets import load_preset

PIECES = (
    *(
        "A dog.",
        "the image shows ",
        "In this image, ",
        "red house ",
        " a",
        ", ",
        ".",
        " ",
        "\n",
        "Let me know!",
        "Sure! ",
    ),
    *("**", "*", "`", "- ", "1. ", "|", '"', "“", "”", "I'm sorry ", "USER: ", "ASSISTANT:", "Caption: "),
    *("<|im_end|>", "<|", "</s>", "<think>", "</think>", "\ud800", "\u200b"),
    *("一只猫", "。", "नदी।", "قطة ", "แมว", "🙂", "👩‍👧"),
)
ANSWERS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=14).map("".join)


@cache
def clip_tokens() -> Tokenizer:
    return Tokenizer()


@pytest.fixture
def tokenizer() -> Tokenizer:
    return clip_tokens()


# What goes


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("The image shows a dog.", "a dog."),
        ("This photograph appears to depict a dog.", "a dog."),
        ("The image is a black and white photograph of a dog.", "a black and white photograph of a dog."),
        ("In this image, we can see a dog.", "a dog."),
        ("In the photo, a dog sleeps.", "a dog sleeps."),
        ("This is an image of a dog.", "a dog."),
        (
            "A red car. The image also features a tree. In the image, there is a house.",
            "A red car. a tree. there is a house.",
        ),
        ("Sure! Here is a detailed description of the image:\n\nA dog.", "A dog."),
        ("A dog. Let me know if you need more!", "A dog."),
        ("ASSISTANT: A dog.", "A dog."),
        ("USER: Describe this. ASSISTANT: A dog. USER: And the style?", "A dog."),
        ("User: <image>\nDescribe this.\nAssistant: A dog.", "A dog."),
        ("A dog.\nUSER: And the style? ASSISTANT: Old.", "A dog."),
        ("Caption: A dog.", "A dog."),
        ("<|im_start|>assistant\nA dog.<|im_end|>", "A dog."),
        ("<s> A dog.</s><pad><pad>", "A dog."),
        ("A dog<loc_12><loc_34> and a cat[SEP]", "A dog and a cat."),
        ("<think>The user wants a caption.</think>A dog.", "A dog."),
        ("The user wants a caption.</think>A dog.", "A dog."),
        ("## Setting\n**A dog** on a *lawn*, `still`.", "Setting A dog on a lawn, still."),
        ("Seen:\n- a dog\n- a cat\n", "Seen: a dog, a cat."),
        ("1. A dog\n2. A cat", "A dog, A cat."),
        ("[A dog](https://example.org/a.png) and ![a cat](b.png)", "A dog and a cat."),
        ("**A dog", "A dog."),
        ('"A dog."', "A dog."),
        ("„Ein Hund.“", "Ein Hund."),
        ("「猫がいる。」", "猫がいる。"),
        ("A dog\n\n\ton\x00 a\u2028lawn.\ufeff", "A dog on a lawn."),
        ("A lone \ud83d surrogate.", "A lone surrogate."),
    ],
)
def test_what_is_no_caption_goes(answer: str, caption: str) -> None:
    assert clean(answer) == caption


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n\t ",
        "</s>",
        "ASSISTANT:",
        "USER: what is this?",
        "I'm sorry, but I can't describe people.",
        "As an AI language model, I cannot see.",
        "<think>Let me look at",
    ],
)
def test_an_answer_without_a_caption_is_empty(answer: str) -> None:
    assert clean(answer) == ""


# What stays


@pytest.mark.parametrize(
    "text",
    [
        "A McDonald's in Köln, ÉTÉ 1962, İstanbul, ẞ.",
        "Ein Hund sitzt auf der Wiese.",
        "这张照片里有一只猫坐在窗台上。背景是蓝天。",
        "猫が窓辺に座っている。",
        "गंगा नदी पर एक नाव।",
        "قطة تجلس على النافذة؟",
        "می‌خواهم یک گربه.",  # with a zero-width non-joiner, which is part of the spelling
        "Кошка сидит на окне.",
        "A family 👩‍👩‍👧‍👦 with a flag 🏳️‍🌈.",
        'A sign says "Open" and another "Closed".',
        "A sign says User: admin.",
        "A very, very, very old house.",
        "A note of 1,000,000,000,000,000 marks, number 000000000000.",
        "2. Weltkrieg, ein Panzer.",
        "5*3*2 tiles and snake_case_names.",
        "A man who cannot see.",
        "In the picture frame on the wall hangs a hat.",
        "A photo of a cat.",
        "Decomposed: cafe\u0301 stays so.",
    ],
)
def test_words_of_any_language_stay_letter_by_letter(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "ended"),
    [("A dog", "A dog."), ("一只猫", "一只猫。"), ("A dog,", "A dog."), ("नदी", "नदी."), ("A 🐕", "A 🐕")],
)
def test_a_caption_does_not_run_into_the_words_behind_it(text: str, ended: str) -> None:
    assert clean(text) == ended


# Loops


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("A red car. A dog and a cat. A dog and a cat. A dog and a cat. A dog", "A red car. A dog and a cat."),
        ("A street with " + "a tall house, " * 30 + "a tall", "A street with a tall house."),
        ("A dog on the " + "the " * 60, "A dog on the."),
        ("窗台上有一只猫。" + "蓝天白云" * 20, "窗台上有一只猫。蓝天白云。"),
        ("Old wood cloud cloud cloud cloud cloud cloud cloud cloud cloud", "Old wood cloud."),
        ("Seen: " + "a dog, a cat, " * 5 + "a dog, a bird.", "Seen: a dog, a cat, a dog, a bird."),
        ("A cat " + "😀" * 40, "A cat 😀"),
        ("A dog runs. A cat sits. A dog runs.", "A dog runs. A cat sits."),
        ("A wide plain. " + " ".join(f"The long sentence number {i % 9} of them." for i in range(40)), None),
    ],
)
def test_a_loop_is_said_once(answer: str, caption: str | None) -> None:
    if caption is None:
        caption = "A wide plain. " + " ".join(f"The long sentence number {i} of them." for i in range(9))
    assert clean(answer) == caption


@pytest.mark.parametrize(
    "answer", ["cat " * 30, "A dog and a cat. " * 9, "一只猫" * 30, "!" * 50, "😀" * 40, "the the " * 9]
)
def test_nothing_but_a_loop_is_nothing(answer: str) -> None:
    assert clean(answer) == ""


@pytest.mark.parametrize(
    "answer", ["ab" * 100_000, "".join(chr(97 + i * i * 7 % 26) for i in range(100_000)), "<|" * 50_000, "*" * 9999]
)
def test_long_nonsense_takes_no_time(answer: str) -> None:
    start = time.process_time()
    clean(answer)
    assert time.process_time() - start < 2


def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    caption = clean(" ".join(f"word{i}" for i in range(100_000)))
    assert LONGEST_ANSWER - 10 < len(caption) <= LONGEST_ANSWER + 1


# The budget


def test_a_text_is_cut_at_a_sentence_or_where_that_loses_too_much_at_a_word() -> None:
    def count(text: str) -> int:
        return len(text.split())

    text = "One two three. Four five six. Seven eight, nine ten."
    assert fit(text, 10, count) == text
    assert fit(text, 9, count) == "One two three. Four five six."
    assert fit(text, 5, count) == "One two three."
    assert fit("One. Two three four five six, seven", 6, count) == "One. Two three four five six."
    assert fit(text, 0, count) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "A weathered fishing boat lies on a shingle beach below white cliffs, " * 2
        + "while two children in wool coats watch the sea.",
        "一只黑白相间的猫坐在木制窗台上看着外面的花园，背景是蓝天和白云，照片是黑白的，风格古老，非常详细，" * 2
        + "窗外有树。",
        "Кошка сидит на деревянном окне и смотрит на зелёный сад с яблонями, старая чёрно-белая фотография.",
        "แมวสีดำนั่งอยู่บนขอบหน้าต่างไม้และมองออกไปที่สวนด้านนอกในวันที่ท้องฟ้าแจ่มใส",
        "👩‍👩‍👧‍👦 " * 7 + "a family at the sea 🌊🌊 under a 🌈 with three dogs, one of them on a very long red leash",
    ],
)
@pytest.mark.parametrize("preset", ["faithful", "demo"])
def test_a_caption_and_its_suffix_fit_into_clip(answer: str, preset: str, tokenizer: Tokenizer) -> None:
    suffix = load_preset(preset).text.positive
    caption = clean_to_fit(answer, PROMPT_TOKENS, lambda text: tokenizer.count(text + suffix))
    assert join_prompt(tokenizer, caption, suffix) == (caption + suffix, False)
    assert len(caption) > 6, "and the room is used"
    assert clean(answer).startswith(caption[:-1])


def test_a_budget_that_the_suffix_fills_leaves_no_caption(tokenizer: Tokenizer) -> None:
    assert clean_to_fit("A dog.", PROMPT_TOKENS, lambda text: tokenizer.count(text + ", sharp" * 60)) == ""


# Properties


@given(ANSWERS)
def test_a_clean_text_is_one_line_and_stays_as_it_is(answer: str) -> None:
    caption = clean(answer)
    assert clean(caption) == caption
    assert caption == " ".join(caption.split())
    assert len(caption) <= len(answer) + 1
    caption.encode()


@given(ANSWERS, st.integers(0, 30))
def test_a_fitted_text_is_within_its_budget_and_stays_as_it_is(answer: str, budget_tokens: int) -> None:
    count = clip_tokens().count
    caption = clean_to_fit(answer, budget_tokens + 2, count)
    assert not caption or count(caption) <= budget_tokens + 2
    assert clean_to_fit(caption, budget_tokens + 2, count) == caption == clean(caption)


@given(ANSWERS)
def test_letters_are_kept_or_left_out_but_never_changed(answer: str) -> None:
    rest = iter(answer)
    assert all(letter in rest for letter in clean(answer) if letter.isalnum())
