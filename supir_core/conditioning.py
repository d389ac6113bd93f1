"""Prompts and sizes -> what steers the networks: `context` and `vector` (SDXL's conditioning)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core.networks.blocks import timestep_embedding
from supir_core.networks.text import PROMPT_TOKENS, TextEncoders, Tokenizer

# Original size, crop corner and target size: the model was trained with exactly these (height, width).
SIZE_VECTOR = (1024, 1024, 0, 0, 1024, 1024)


class Conditioning(NamedTuple):
    """Text as the networks take it; rows are prompts."""

    context: Tensor  # (B, 77, context_dim)
    vector: Tensor  # (B, vector_dim)


def condition(text: TextEncoders, size_embedding: int, prompts: Sequence[str]) -> Conditioning:
    """Encode prompts and append the embedded size vector.

    Args:
        text: both text encoders.
        size_embedding: channels per number of the size vector; 256 at full size.
        prompts: B prompts; each is cut to 75 tokens.
    """
    context, pooled = text(prompts)
    sizes = torch.tensor(SIZE_VECTOR, dtype=torch.float32, device=pooled.device)
    embedded = timestep_embedding(sizes, size_embedding).flatten().to(pooled.dtype)  # (6 * size_embedding,)
    return Conditioning(context, torch.cat([pooled, embedded.expand(len(pooled), -1)], dim=-1))


def join_prompt(tokenizer: Tokenizer, caption: str, suffix: str) -> tuple[str, bool]:
    """Caption and suffix as one prompt, without a separator as published, and whether words had to go.

    What does not fit into CLIP's 75 tokens is taken from the end of the caption: the suffix is never cut for it.
    """
    if tokenizer.count(caption + suffix) <= PROMPT_TOKENS:
        return caption + suffix, False
    words = caption.split()
    fits, too_many = 0, len(words)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if tokenizer.count(" ".join(words[:middle]) + suffix) <= PROMPT_TOKENS:
            fits = middle
        else:
            too_many = middle
    return " ".join(words[:fits]) + suffix, True
