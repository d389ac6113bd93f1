"""The compiled step: that it can be one graph, that it computes the same, and what happens where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from supir_core.compiled import Compiled, Step
from supir_core.conditioning import Conditioning
from supir_core.denoiser import Denoiser
from supir_core.networks.control import ControlBranch
from supir_core.networks.unet import UNet
from supir_core.parts import PREFIXES
from tests.core.tiny_model import TINY
from tests.formula import formula_tensor


def one_graph(step: Step) -> Step:
    """As on a GPU, but for what is made of the graph: that takes minutes on a processor."""
    return torch.compile(step, fullgraph=True, backend="eager")


@pytest.fixture
def unet() -> UNet:
    return with_weights(UNet(TINY.unet), PREFIXES["unet"])


@pytest.fixture
def control() -> ControlBranch:
    return with_weights(ControlBranch(TINY.unet), PREFIXES["control"])


def with_weights(module: Any, prefix: str) -> Any:
    module.load_state_dict(
        {key: formula_tensor(prefix + key, tuple(t.shape)) for key, t in module.state_dict().items()}
    )
    return module.requires_grad_(False).eval()


@torch.inference_mode()
def test_the_step_is_one_graph_for_every_shape_and_computes_the_same(unet: UNet, control: ControlBranch) -> None:
    steps: list[Compiled] = []

    def faster(step: Step) -> Step:
        steps.append(Compiled(step, one_graph))
        return steps[-1]

    plain, fast = Denoiser(unet, control), Denoiser(unet, control, faster)
    for batch, height, width in ((2, 8, 8), (4, 8, 8), (2, 16, 8)):
        assert torch.equal(estimate(plain, batch, height, width), estimate(fast, batch, height, width))
    assert steps[0].why_not == ""


def estimate(denoiser: Denoiser, batch: int, height: int, width: int) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    context = torch.randn(batch, 77, TINY.unet.context_dim, generator=draw)
    prompt = denoiser.read(Conditioning(context, torch.randn(batch, TINY.unet.vector_dim, generator=draw)))
    x = torch.randn(batch, 4, height, width, generator=draw)
    return denoiser(x, torch.linspace(0.5, 9, batch), denoiser.hint(x), prompt, torch.ones(batch))


def test_where_compiling_fails_the_step_runs_as_it_is_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    step = Compiled(lambda x: x + 1, failing(RuntimeError("no C++ compiler\nat length")))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert [step(torch.tensor(1.0)).item(), step(torch.tensor(2.0)).item()] == [2, 3]
    assert step.why_not == "RuntimeError: no C++ compiler"
    assert [record.getMessage() for record in caplog.records] == [f"torch.compile is off: {step.why_not}"]


def test_an_error_of_the_step_itself_is_not_blamed_on_the_compiler() -> None:
    def step(x: Tensor) -> Tensor:
        raise ValueError("a bug")

    compiled = Compiled(step, failing(RuntimeError("the compiler met it first")))
    with pytest.raises(ValueError, match="a bug"):
        compiled(torch.tensor(1.0))
    assert compiled.why_not == ""


def test_no_memory_is_not_blamed_on_the_compiler() -> None:
    compiled = Compiled(lambda x: x, failing(torch.OutOfMemoryError("no memory")))
    with pytest.raises(torch.OutOfMemoryError):
        compiled(torch.tensor(1.0))
    assert compiled.why_not == ""


def failing(error: Exception) -> Callable[[Step], Step]:
    """A compiler whose product fails when it is called, as torch's does."""

    def fast(*inputs: Tensor) -> Tensor:
        raise error

    return lambda step: fast
