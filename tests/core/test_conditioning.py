from __future__ import annotations

import pytest
import torch

from supir_core.conditioning import condition, join_prompt
from supir_core.networks.blocks import timestep_embedding
from supir_core.networks.dims import DEMO
from supir_core.networks.text import END_OF_TEXT, PROMPT_TOKENS, TextEncoders, Tokenizer, clip_l_ids
from supir_core.precision import PRECISIONS
from supir_core.weights import load_networks


@pytest.fixture(scope="module")
def text() -> TextEncoders:
    return load_networks("demo", torch.device("cpu"), PRECISIONS["float32"]).text


def test_one_row_per_prompt(text: TextEncoders) -> None:
    cond = condition(text, DEMO.text.size_embedding, ["", "a street", "a boat"])
    assert cond.context.shape == (3, PROMPT_TOKENS, DEMO.unet.context_dim)
    assert cond.vector.shape == (3, DEMO.unet.vector_dim)
    assert len(cond.context.unique(dim=0)) == len(cond.vector.unique(dim=0)) == 3


def test_a_prompt_does_not_depend_on_its_neighbours(text: TextEncoders) -> None:
    alone = condition(text, 32, ["a street"])
    together = condition(text, 32, ["a boat", "a street"])
    torch.testing.assert_close(together.context[1:], alone.context, rtol=0, atol=1e-5)
    torch.testing.assert_close(together.vector[1:], alone.vector, rtol=0, atol=1e-5)


def test_the_vector_ends_in_the_sizes_that_the_model_was_trained_with(text: TextEncoders) -> None:
    sizes = condition(text, 32, ["a street"]).vector[0, -6 * 32 :]
    side, corner = timestep_embedding(torch.tensor([1024, 0]), 32)
    torch.testing.assert_close(sizes, torch.cat([side, side, corner, corner, side, side]))


def test_zero_embeds_as_cosines_then_sines() -> None:
    assert timestep_embedding(torch.tensor([0]), 6).tolist() == [[1, 1, 1, 0, 0, 0]]


def test_long_prompts_keep_75_tokens_and_the_end() -> None:
    [ids] = Tokenizer()(["boat " * 200]).tolist()
    assert len(ids) == PROMPT_TOKENS
    assert ids[-1] == END_OF_TEXT
    assert len(set(ids[1:-1])) == 1


def test_the_two_encoders_pad_differently() -> None:
    ids = Tokenizer()(["boat"])
    assert ids[0, 3:].eq(0).all()
    assert clip_l_ids(ids)[0, 2:].eq(END_OF_TEXT).all()
    assert torch.equal(clip_l_ids(ids)[0, :3], ids[0, :3])


# Prompts that do not fit


def test_a_short_caption_and_its_suffix_are_joined_as_they_are() -> None:
    assert join_prompt(Tokenizer(), "a cat", " Sharp photo.") == ("a cat Sharp photo.", False)


def test_a_long_caption_is_cut_at_a_word_and_the_suffix_is_kept() -> None:
    tokenizer = Tokenizer()
    words = [f"word{i}" for i in range(80)]
    prompt, truncated = join_prompt(tokenizer, " ".join(words), ", sharp, detailed")
    assert truncated and prompt.endswith(", sharp, detailed")
    kept = prompt.removesuffix(", sharp, detailed").split()
    assert kept == words[: len(kept)] and kept
    assert tokenizer.count(prompt) <= 77 < tokenizer.count(" ".join(words[: len(kept) + 1]) + ", sharp, detailed")


def test_a_suffix_that_fills_the_prompt_leaves_no_caption() -> None:
    suffix = ", sharp" * 60
    assert join_prompt(Tokenizer(), "a cat", suffix) == (suffix, True)
