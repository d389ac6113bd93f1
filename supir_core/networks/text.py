"""SDXL's two text encoders: CLIP ViT-L/14 (transformers) and OpenCLIP ViT-bigG/14 (open_clip).

Both packages are imported where something is built of them: they take twice as long to import as torch does, and most
processes of a run build no encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from supir_core.networks.dims import ClipDims, TextDims

if TYPE_CHECKING:
    from open_clip.transformer import TextTransformer
    from transformers import CLIPTextModel

PROMPT_TOKENS = 77  # start, 75 tokens of text, end
END_OF_TEXT = 49407


class Tokenizer:
    """CLIP's byte-pair encoding; the vocabulary lies inside the open_clip package."""

    def __init__(self) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._encode = SimpleTokenizer(context_length=PROMPT_TOKENS)

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """(B, 77) int64 ids padded with 0, as OpenCLIP wants them; longer prompts keep 75 tokens and the end."""
        return self._encode(list(prompts))

    def count(self, prompt: str) -> int:
        """Tokens of a prompt, its start and end included, before anything is cut."""
        return len(self._encode.encode(prompt)) + 2


def clip_l_ids(open_clip_ids: Tensor) -> Tensor:
    """The same prompts as CLIP-L wants them: padded with the end-of-text id."""
    ids = open_clip_ids.clone()
    after_end = (open_clip_ids == END_OF_TEXT).cumsum(-1) > 0
    ids[after_end] = END_OF_TEXT
    return ids


class TextEncoders(nn.Module):
    """Prompts -> tokens of both encoders side by side, and OpenCLIP's pooled vector."""

    def __init__(self, dims: TextDims):
        super().__init__()
        self.tokenizer = Tokenizer()
        self.clip_l = _clip_l(dims.clip_l)
        self.open_clip = _open_clip(dims.open_clip)

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode prompts.

        Returns:
            context (B, 77, clip_l.width + open_clip.width) and pooled (B, open_clip.projection).
        """
        ids = self.tokenizer(prompts).to(self.open_clip.positional_embedding.device)
        tokens, pooled = self.encode_open_clip(ids)
        return torch.cat([self.encode_clip_l(clip_l_ids(ids)), tokens], dim=-1), pooled

    def encode_clip_l(self, ids: Tensor) -> Tensor:
        """Hidden state before the last layer, without the final norm: (B, 77) -> (B, 77, width)."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        out = self.clip_l(input_ids=ids, position_ids=positions, output_hidden_states=True)
        return out.hidden_states[-2]

    def encode_open_clip(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the last block (B, 77, width), and the pooled end-of-text vector (B, projection)."""
        net = self.open_clip
        x = net.token_embedding(ids) + net.positional_embedding
        mask = torch.full((ids.shape[1],) * 2, -torch.inf, dtype=x.dtype, device=x.device).triu(1)
        for block in net.transformer.resblocks[:-1]:
            x = block(x, attn_mask=mask)
        last = net.ln_final(net.transformer.resblocks[-1](x, attn_mask=mask))
        end = last[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]  # end-of-text has the highest id
        return x, end @ net.text_projection


def _clip_l(dims: ClipDims) -> CLIPTextModel:
    from transformers import CLIPTextConfig, CLIPTextModel

    model = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=dims.width,
            intermediate_size=dims.mlp_width,
            num_hidden_layers=dims.layers,
            num_attention_heads=dims.heads,
            projection_dim=dims.projection,
            hidden_act="quick_gelu",
            bos_token_id=END_OF_TEXT - 1,
            eos_token_id=END_OF_TEXT,
            pad_token_id=END_OF_TEXT,
        )
    )
    model.embeddings.register_buffer("position_ids", None)  # passed in, so that the module holds nothing but weights
    return model


def _open_clip(dims: ClipDims) -> TextTransformer:
    from open_clip.transformer import TextTransformer

    model = TextTransformer(
        width=dims.width,
        heads=dims.heads,
        layers=dims.layers,
        mlp_ratio=dims.mlp_width / dims.width,
        output_dim=dims.projection,
        act_layer=nn.GELU,
        norm_layer=nn.LayerNorm,
    )
    model.attn_mask = None  # built where it is used, so that the module holds nothing but weights
    return model
