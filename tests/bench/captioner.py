"""`python -m tests.bench.captioner DIR` writes a LLaVA of middling size, random weights, for `supir bench captions`.

A vision tower like CLIP's ViT-B/14 at 224 pixels and 12 layers of text, 768 wide: 0.2 billion weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.core.tiny_captioners import llava

TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
}
VISION = {**TEXT, "image_size": 224, "patch_size": 14}
del VISION["num_key_value_heads"]


def main() -> None:
    """Write the model."""
    torch.manual_seed(1)
    network, processor = llava(TEXT, VISION)
    folder = Path(sys.argv[1])
    network.save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
