"""Weights by a formula: those of the parity data, and of tests that need some."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor


def formula_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """Random but reproducible weights of one tensor, from its published name alone.

    Nothing is left at zero, so every layer takes part: norm scales 1 + 0.1 n, other vectors 0.1 n, embeddings 0.02 n,
    the rest n / sqrt(fan in), for n from N(0, 1) seeded by the name's CRC-32. These are the weights of the parity data.

    Returns:
        float32 of `shape`.
    """
    n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if n.ndim == 1:
        n = np.float32(0.1) * n + (1 if key.endswith(".weight") else 0)
    elif any(part in key for part in ("token_embedding", "positional_embedding", "position_embedding")):
        n = np.float32(0.02) * n
    else:
        n = n / np.sqrt(np.float32(np.prod(shape[1:])))
    return torch.from_numpy(np.ascontiguousarray(n, dtype=np.float32))
