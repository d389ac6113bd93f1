"""What is written down instead of trained does what it says, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from supir_core.networks.dims import DEMO, VaeDims
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Vae
from training.diffusing import without_control
from training.optimizer import orthogonalized
from training.pictures import draw
from training.written import POSTERIOR_STD, let_through, principal_components, write_decoder, write_encoder, write_unet

PIXELS = torch.from_numpy(np.stack([draw(seed, 64).pixels for seed in range(12)]))  # (12, 64, 64, 3)
X = (PIXELS.permute(0, 3, 1, 2).float() / 127.5 - 1)[:4]


def test_components_go_there_and_back() -> None:
    components = principal_components(PIXELS, 48)
    assert torch.allclose(components.decode(components.encode(X)), X, atol=1e-4)
    few = principal_components(PIXELS, 16)
    latents = few.encode((PIXELS.permute(0, 3, 1, 2).float() / 127.5) - 1)
    assert latents.square().mean().item() == pytest.approx(1, abs=1e-3)
    errors = [(principal_components(PIXELS, n).decode(principal_components(PIXELS, n).encode(X)) - X) for n in (4, 16)]
    assert errors[1].square().mean() < errors[0].square().mean() / 2


@torch.no_grad()
def test_an_encoder_gives_components() -> None:
    components = principal_components(PIXELS, DEMO.vae.latent_channels)
    vae = Vae(DEMO.vae)
    write_encoder(vae, vae.denoise_encoder, components)
    posterior, wanted = vae.encode_degraded(X), components.encode(X)
    assert (posterior.mean - wanted).square().mean().sqrt() < 0.02  # of 1; constants are loud, not infinite
    assert torch.allclose(posterior.std, torch.tensor(POSTERIOR_STD), rtol=1e-4)


@torch.no_grad()
def test_a_decoder_begins_with_the_colours_of_cells() -> None:
    components = principal_components(PIXELS, DEMO.vae.latent_channels)
    vae = Vae(DEMO.vae)
    write_decoder(vae, components)
    torch.nn.init.zeros_(vae.decoder.conv_out.weight[:, 12:])  # the random channels' part
    even = torch.tensor([[-1.0, -1, -1], [0.2, -0.6, 0.9]])[:, :, None, None].expand(-1, -1, 32, 32)
    for x in (X, even):  # an even picture keeps its colour, which normalisations alone would take away
        z = components.encode(x)
        wanted = nn.functional.avg_pool2d(components.decode(z), 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        assert (vae.decode(z) - wanted).abs().max() < 0.01


def test_an_encoder_without_room_is_refused() -> None:
    narrow = Vae(VaeDims(8, (1, 1, 2), 1, latent_channels=4, norm_groups=8, latent_scale=1.0))
    with pytest.raises(ValueError, match="no room for 4 components"):
        write_encoder(narrow, narrow.encoder, principal_components(PIXELS, 4))


@torch.no_grad()
def test_a_unet_gives_its_input() -> None:
    torch.manual_seed(0)
    unet = without_control(UNet(DEMO.unet))
    ((weight, may_change),) = write_unet(unet)
    assert may_change.shape == weight.shape
    assert not weight[may_change == 0].any()
    x, t = torch.randn(2, DEMO.unet.latent_channels, 16, 16), torch.tensor([999, 500])
    text = unet.read(torch.randn(2, 77, DEMO.unet.context_dim))
    features = [None] * (len(unet.input_blocks) + 1)
    made = unet(x, t, text, torch.randn(2, DEMO.unet.vector_dim), features, torch.ones(2))
    assert (made - x).abs().max() < 0.01


@torch.no_grad()
def test_a_norm_lets_through_whatever_its_input() -> None:
    norm, loud = nn.GroupNorm(2, 8), torch.tensor([False, False, True, True] * 2)
    let_through(norm, loud)
    x = torch.randn(3, 8, 5, 5) * torch.tensor([0.1, 1, 4])[:, None, None, None]
    x -= x.mean((2, 3), keepdim=True)  # a group's mean is taken out, loud or not
    x[:, loud] = torch.tensor([64.0, -64.0, 64.0, -64.0])[None, :, None, None]
    assert torch.allclose(norm(x)[:, ~loud], x[:, ~loud], atol=0.1)
    assert not norm(x)[:, loud].any()


@pytest.mark.parametrize("shape", [(16, 48), (48, 16)])
def test_a_step_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(-0.5, 0.5, shape[1]))
    values = torch.linalg.svdvals(orthogonalized(matrix))
    assert values.min() > 0.5
    assert values.max() < 1.3
