"""A model of a few thousand weights and the files that people would have of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import Tensor

from supir_core.errors import WeightsError
from supir_core.networks.dims import ClipDims, ModelDims, TextDims, UNetDims, VaeDims
from supir_core.parts import SDXL_PARTS, SUPIR_PARTS, wanted
from tests.formula import formula_tensor

# No two text encoders alike and no square projection, so that nothing fits where it does not belong.
TINY = ModelDims(
    VaeDims(32, (1, 1), 1, latent_channels=4, norm_groups=32, latent_scale=0.13025),
    UNetDims(
        channels=32,
        channel_mult=(1, 2),
        res_blocks=1,
        transformer_depth=(1, 1),
        head_channels=32,
        context_dim=96,
        vector_dim=48 + 6 * 8,
        latent_channels=4,
        norm_groups=32,
        connector_hidden=32,
        connector_head_channels=64,
    ),
    TextDims(ClipDims(32, 1, 2, 64, 32), ClipDims(64, 2, 2, 128, 48), size_embedding=8),
)


def tensors(*parts: str) -> dict[str, Tensor]:
    """The tensors of some parts under the published names."""
    shapes = wanted(TINY)
    return {key: formula_tensor(key, shape) for part in parts for key, shape in shapes[part].items()}


SDXL = tensors(*SDXL_PARTS)
SUPIR = tensors(*SUPIR_PARTS)


def put(folder: Path, files: Mapping[str, Mapping[str, Tensor]]) -> Path:
    """Write .safetensors files and a model.json of the tiny dimensions."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps({"dims": TINY.to_dict()}))
    for name, content in files.items():
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, folder / name)
    return folder


@contextmanager
def raises(code: str, *says: str) -> Iterator[pytest.ExceptionInfo[WeightsError]]:
    """The one error that is meant: its code, and words that it has to say."""
    with pytest.raises(WeightsError) as caught:
        yield caught
    assert caught.value.code == code, caught.value
    for text in says:
        assert text in str(caught.value)
