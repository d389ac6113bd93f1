"""The demo model's two text encoders in plain PyTorch, with the published names of their weights.

They have one layer each. SDXL reads the tokens before the last layer, which then are the sums of word and position;
only the pooled vector goes through OpenCLIP's layer. `tests/training` compares them with `supir_core.networks.text`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from supir_core.networks.blocks import timestep_embedding
from supir_core.networks.dims import ClipDims, TextDims
from training.words import END, PROMPT_TOKENS, token_ids

VOCABULARY = 49408
SIZE_VECTOR = (1024, 1024, 0, 0, 1024, 1024)  # as `supir_core.conditioning` has it; that module needs open_clip
SPREAD = 0.02  # of new embeddings: a word that is never trained on has next to no effect


class _ClipL(nn.Module):
    def __init__(self, dims: ClipDims):
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": nn.Embedding(VOCABULARY, dims.width),
                "position_embedding": nn.Embedding(PROMPT_TOKENS, dims.width),
            }
        )
        for table in self.embeddings.values():
            nn.init.normal_(table.weight, std=SPREAD)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, 77) padded with 0 -> (B, 77, width); CLIP-L pads with the end."""
        ended = (ids == END).cumsum(-1) > 0
        words = self.embeddings["token_embedding"](ids.masked_fill(ended, END))
        return words + self.embeddings["position_embedding"].weight


class _Layer(nn.Module):
    def __init__(self, dims: ClipDims):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dims.width), nn.LayerNorm(dims.width)
        self.attn = nn.MultiheadAttention(dims.width, dims.heads, batch_first=True)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(dims.width, dims.mlp_width),
                gelu=nn.GELU(),
                c_proj=nn.Linear(dims.mlp_width, dims.width),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        mask = torch.full((x.shape[1],) * 2, -torch.inf, dtype=x.dtype, device=x.device).triu(1)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class _OpenClip(nn.Module):
    def __init__(self, dims: ClipDims):
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, dims.width)
        nn.init.normal_(self.token_embedding.weight, std=SPREAD)
        self.positional_embedding = nn.Parameter(torch.randn(PROMPT_TOKENS, dims.width) * SPREAD)
        self.transformer = nn.ModuleDict({"resblocks": nn.ModuleList([_Layer(dims)])})
        self.ln_final = nn.LayerNorm(dims.width)
        self.text_projection = nn.Parameter(torch.randn(dims.width, dims.projection) * dims.width**-0.5)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 77) padded with 0 -> tokens (B, 77, width), pooled (B, projection)."""
        tokens = self.token_embedding(ids) + self.positional_embedding
        last = self.ln_final(self.transformer["resblocks"][0](tokens))
        end = last[torch.arange(len(ids), device=ids.device), ids.argmax(-1)]
        return tokens, end @ self.text_projection


class Text(nn.Module):
    """Prompts -> context and vector, as `supir_core.conditioning.condition` gives them."""

    def __init__(self, dims: TextDims):
        super().__init__()
        if dims.clip_l.layers != 1 or dims.open_clip.layers != 1:
            raise ValueError("only text encoders of one layer are trained here")
        self.clip_l, self.open_clip = _ClipL(dims.clip_l), _OpenClip(dims.open_clip)
        self._size_embedding = dims.size_embedding

    def forward(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Context (B, 77, context_dim) and vector (B, vector_dim), float32."""
        device = self.open_clip.positional_embedding.device
        distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        ids = torch.tensor([token_ids(prompt) for prompt in distinct], device=device)
        with torch.autocast(device.type, enabled=False):
            tokens, pooled = self.open_clip(ids)
            context = torch.cat([self.clip_l(ids), tokens], dim=-1)
        sizes = torch.tensor(SIZE_VECTOR, dtype=torch.float32, device=device)
        embedded = timestep_embedding(sizes, self._size_embedding).flatten()
        rows = torch.tensor([distinct[prompt] for prompt in prompts], device=device)
        return context[rows], torch.cat([pooled, embedded.expand(len(pooled), -1)], dim=-1)[rows]
