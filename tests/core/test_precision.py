"""Number types: names, and weights stored in 8 bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supir_core.errors import InputError
from supir_core.precision import FP8, PRECISIONS, device_named, precision_named, store_linears_as_fp8


def test_the_vae_is_never_float16() -> None:
    assert all(precision.vae != torch.float16 for precision in PRECISIONS.values())


def test_without_a_name_the_device_decides() -> None:
    assert precision_named(None, torch.device("cpu")).networks == torch.float32
    assert precision_named(None, torch.device("cuda:1")).networks == torch.bfloat16


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="int4") as raised:
        precision_named("int4", torch.device("cpu"))
    assert raised.value.code == "dtype" and "float8" in raised.value.hint


@pytest.mark.parametrize("name", ["abacus", "cuda:x", "CPU", "cpu:0", "cuda:99"])
def test_a_device_that_is_none_or_not_here_is_refused(name: str) -> None:
    with pytest.raises(InputError) as raised:
        device_named(name)
    assert raised.value.code == "device" and raised.value.hint


def test_float8_weights_stay_close_and_take_a_quarter() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), nn.ModuleDict({"deep": nn.Linear(32, 16, bias=False)})["deep"])
    with torch.no_grad():
        net[0].weight[3] *= 1000  # one loud channel must not cost the others their precision
        x = torch.randn(8, 64)
        exact = net[0](x)
        store_linears_as_fp8(net)
        ours = net[0](x)
    assert net[0].weight.dtype == net[1].weight.dtype == FP8
    error = (ours - exact).abs().amax(dim=0) / exact.abs().amax(dim=0)
    assert 0 < error.max() < 0.1
