"""The autoencoder by strips gives what it gives whole, whatever the size and the budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from supir_core import vae_strips
from supir_core.autoencoder import Autoencoder
from supir_core.networks.dims import VaeDims
from supir_core.networks.vae import Vae
from tests.formula import formula_tensor

DIMS = VaeDims(8, (1, 2, 2), 1, latent_channels=4, norm_groups=4, latent_scale=0.5)
SIZES = [(16, 16), (64, 24), (132, 40)]  # pixels, height first
BUDGETS = [0, 10**5, 10**9]
STRIP = 4096  # bytes, so that small pictures have many strips


@pytest.fixture(scope="module")
def vae() -> Vae:
    vae = Vae(DIMS)
    vae.load_state_dict({key: formula_tensor(key, tuple(value.shape)) for key, value in vae.state_dict().items()})
    return vae.requires_grad_(False)


def scene(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


def distance(ours: Tensor, whole: Tensor) -> float:
    """Largest difference over the standard deviation."""
    assert ours.shape == whole.shape
    return float((ours - whole).abs().max() / whole.std())


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_encoding_by_strips_is_encoding(vae: Vae, height: int, width: int, budget: int) -> None:
    x = scene(1, 3, height, width)
    assert distance(vae_strips.encode(vae.encoder, x, budget, STRIP), vae.encoder(x)) < 1e-4


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_decoding_by_strips_is_decoding(vae: Vae, height: int, width: int, budget: int) -> None:
    z = scene(1, 4, height // DIMS.factor, width // DIMS.factor)
    assert distance(vae_strips.decode(vae.decoder, z, budget, STRIP), vae.decoder(z)) < 1e-4


def test_a_picture_beyond_the_budget_goes_by_strips_and_comes_out_the_same(vae: Vae) -> None:
    rich, poor = Autoencoder(vae, DIMS.latent_scale), Autoencoder(vae, DIMS.latent_scale, budget_bytes=1)
    x = scene(1, 3, 64, 40)
    z = rich.encode_degraded(x)
    assert distance(poor.encode_degraded(x), z) < 1e-4
    assert distance(poor.encode(x).std, rich.encode(x).std) < 1e-4
    assert distance(poor.decode(z), rich.decode(z)) < 1e-4


def test_where_memory_ends_the_picture_goes_by_strips(vae: Vae) -> None:
    class Narrow(torch.nn.Module):
        """A decoder that cannot run whole."""

        def __init__(self, decoder: torch.nn.Module):
            super().__init__()
            for name in ("conv_in", "mid", "up", "norm_out", "conv_out"):
                setattr(self, name, getattr(decoder, name))

        def forward(self, z: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")

    short = Vae(DIMS)
    short.load_state_dict(vae.state_dict())
    short.decoder = Narrow(short.decoder)  # type: ignore[assignment]
    z = scene(1, 4, 8, 6)
    with torch.no_grad():
        ours = Autoencoder(short, DIMS.latent_scale).decode(z)
    assert distance(ours, Autoencoder(vae, DIMS.latent_scale).decode(z)) < 1e-4
