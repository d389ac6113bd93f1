"""Weights that are written down instead of trained.

An encoder of principal components, a decoder that starts from the colours of their cells, a UNet that copies exactly:
what principal components give can be solved for in seconds, and trained encoders come no closer. A decoder of few
channels learns details soon, but not how dark an even picture is, which normalisations take away. A denoiser that
predicts noise has to repeat its input to a few thousandths where there is much noise, which networks full of
normalisations learn last. All need a linear path through GroupNorm and SiLU:

- a group that also holds +LOUD and -LOUD has nearly the same deviation whatever else is in it, so its norm is a
  division by a constant, which its weight undoes (`let_through`); only the mean of the group is lost;
- silu(a) - silu(-a) = a.

Residual blocks start as identities and attention as nothing (their last layers are zero), and learn from there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supir_core.networks import blocks
from supir_core.networks.unet import Trunk, UNet
from supir_core.networks.vae import Decoder, Encoder, Vae

LOUD = 64.0  # of the constants; signals are of the order of 1 to 10
CELL_PX = 4
POSTERIOR_STD = 0.03  # of latents whose mean square is 1
PICTURES = 150  # that the components are taken from


class Components(NamedTuple):
    """Principal components of cells of 4 x 4 pixels, as latents and back."""

    analysis: Tensor  # (C, 3, 4, 4) a cell's latent is its product with these
    synthesis: Tensor  # (C, 3, 4, 4) a cell is the sum of these, times its latent
    weight: Tensor  # (C,) pixels' error per error of a latent; their mean is 1

    def to(self, device: torch.device) -> Components:
        """The same on a device."""
        return Components(*(field.to(device) for field in self))

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, C, H / 4, W / 4)."""
        return F.conv2d(x, self.analysis, stride=CELL_PX)

    def decode(self, z: Tensor) -> Tensor:
        """The linear inverse."""
        return F.conv_transpose2d(z, self.synthesis, stride=CELL_PX)


def principal_components(pixels: Tensor, count: int) -> Components:
    """The `count` strongest components.

    A latent is a component's value over the root of its deviation: as they are, the weakest would drown in noise that
    the strongest do not see; made equally strong, networks would care for details nobody sees. Means are not taken out,
    as grey is nearly 0; all latents together have a mean square of 1.

    Args:
        pixels: (N, S, S, 3) uint8.
        count: at most 48.
    """
    x = (pixels[:: max(1, len(pixels) // PICTURES)].permute(0, 3, 1, 2).float() / 127.5 - 1).cpu()
    cells = F.unfold(x, CELL_PX, stride=CELL_PX).transpose(1, 2).flatten(0, 1).double()  # (cells, 48)
    values, vectors = torch.linalg.eigh(cells.T @ cells / len(cells))
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)  # eigenvectors have no sign
    deviation = values.sqrt()
    gain = deviation.sqrt() / (deviation.mean()).sqrt()  # latents' mean square is then 1
    shape = (count, 3, CELL_PX, CELL_PX)
    analysis, synthesis = (vectors / gain).T.reshape(shape), (vectors * gain).T.reshape(shape)
    norm = deviation / gain  # of each latent
    unit = norm.square().mean().sqrt()
    return Components(
        (analysis / unit).float().contiguous(), (synthesis * unit).float().contiguous(), (gain / gain.mean()).float()
    )


def let_through(norm: nn.GroupNorm, loud: Tensor) -> None:
    """Make a norm give what it is given, and nothing where the constants are.

    Args:
        norm: of n channels.
        loud: (n,) bool, where the constants are: as many positive as negative ones in each group that has any.
    """
    per_group = loud.unflatten(0, (norm.num_groups, -1)).sum(1)  # (groups,)
    channels = norm.num_channels // norm.num_groups
    deviation = LOUD * (per_group / channels).sqrt()
    with torch.no_grad():
        known = per_group.repeat_interleave(channels) > 0
        norm.weight[known] = deviation.repeat_interleave(channels)[known]
        norm.weight[loud] = 0.0
        norm.bias.zero_()


@torch.no_grad()
def write_encoder(vae: Vae, encoder: Encoder, components: Components) -> None:
    """Make an encoder, with the shared `quant_conv`, give principal components.

    Pixels of 2 x 2, then of 4 x 4 are gathered side by side by the downsampling convolutions; the shortcut to the last
    level projects them.

    Args:
        vae: its `quant_conv` becomes the identity.
        encoder: three levels, at least 12 and 48 channels in the first two, another width in the third, whose groups
            have room for two channels for each latent one and two constants.
        components: to give.
    """
    count = len(components.analysis)
    widths = [encoder.down[i].block[-1].conv2.out_channels for i in range(3)]
    last, groups = widths[2], encoder.norm_out.num_groups
    size, per = last // groups, -(-count // groups)  # channels and latents of a group
    if len(encoder.down) != 3 or widths[0] < 12 or widths[1] < 48 or last == widths[1] or size < 2 * per + 2:
        raise ValueError(f"no room for {count} components in an encoder of {widths} channels and {groups} groups")
    _begin_as_identities(encoder)
    _identity(encoder.conv_in, 3)
    _gather(encoder.down[0].downsample.conv, 3)
    if widths[0] != widths[1]:
        _identity(encoder.down[1].block[0].nin_shortcut, 12)
    _gather(encoder.down[1].downsample.conv, 12)

    # channels of a group: + and - of each of its latents, +LOUD, -LOUD, and the others as they are
    channel = torch.arange(count)
    plus = channel // per * size + 2 * (channel % per)
    constant = torch.arange(-(-count // per)) * size + 2 * per
    project = encoder.down[2].block[0].nin_shortcut
    order = components.analysis.permute(0, 2, 3, 1)  # (C, y, x, rgb)
    order = order.reshape(count, 2, 2, 2, 2, 3).permute(0, 1, 3, 2, 4, 5)  # y, x of the outer step, then of the inner
    rows = order.reshape(count, 48)
    loud = _lay_beside_constants(project, plus, rows, constant)
    norms = [block.norm1 for block in list(encoder.down[2].block)[1:]]
    norms += [encoder.mid.block_1.norm1, encoder.mid.attn_1.norm, encoder.mid.block_2.norm1, encoder.norm_out]
    for norm in norms:
        let_through(norm, loud)

    nn.init.zeros_(encoder.conv_out.weight)
    nn.init.zeros_(encoder.conv_out.bias)
    encoder.conv_out.weight[channel, plus, 1, 1] = 1.0
    encoder.conv_out.weight[channel, plus + 1, 1, 1] = -1.0
    encoder.conv_out.bias[count:] = 2 * torch.log(torch.tensor(POSTERIOR_STD))
    pass_all(vae.quant_conv)


@torch.no_grad()
def write_decoder(vae: Vae, components: Components) -> None:
    """Make the decoder give each cell's mean colour; training adds what lies within the cells.

    The three colours take the first channels up to the last level, which lays + and - of each beside constants. The
    other channels stay random.

    Args:
        vae: its `post_quant_conv` becomes the identity.
        components: that the latents hold.
    """
    decoder, colour = vae.decoder, torch.arange(3)
    groups = decoder.norm_out.num_groups
    size = decoder.norm_out.num_channels // groups
    if len(decoder.up) != 3 or size < 4 or groups < 3:
        raise ValueError(f"no room for three colours in {groups} groups of {size} channels")
    coarse, middle, fine = reversed(list(decoder.up))
    plus = colour * size
    _begin_as_identities(decoder)
    decoder.conv_in.weight[colour] = 0.0
    decoder.conv_in.weight[colour, :, 1, 1] = components.synthesis.mean((2, 3)).T
    decoder.conv_in.bias[colour] = 0.0
    _identity(coarse.upsample.conv, 3)
    _identity(middle.block[0].nin_shortcut, 3)
    _identity(middle.upsample.conv, 3)
    loud = _lay_beside_constants(fine.block[0].nin_shortcut, plus, torch.eye(3), plus + 2)
    for norm in [block.norm1 for block in list(fine.block)[1:]] + [decoder.norm_out]:
        let_through(norm, loud)
    decoder.conv_out.weight *= 0.1  # of the random channels: what they mean is not known yet
    decoder.conv_out.bias.zero_()
    for sign, at in ((1.0, plus), (-1.0, plus + 1)):
        decoder.conv_out.weight[:, at] = 0.0
        decoder.conv_out.weight[colour, at, 1, 1] = sign
    pass_all(vae.post_quant_conv)


@torch.no_grad()
def pass_all(conv: nn.Conv2d) -> None:
    """Make a convolution the identity."""
    nn.init.zeros_(conv.weight)
    _identity(conv, conv.out_channels)


def written_in(encoder: Encoder) -> list[nn.Parameter]:
    """The weights that `write_encoder` does not leave random or zero."""
    layers = [encoder.conv_in, encoder.conv_out, *(level.downsample.conv for level in list(encoder.down)[:-1])]
    shortcuts = [block.nin_shortcut for block in _residual_blocks(encoder) if hasattr(block, "nin_shortcut")]
    return [layer.weight for layer in layers + shortcuts]


def _residual_blocks(network: Encoder | Decoder) -> list[nn.Module]:
    return [module for module in network.modules() if hasattr(module, "conv2")]


def _begin_as_identities(network: Encoder | Decoder) -> None:
    """Residual blocks and attention add nothing yet."""
    for last in [block.conv2 for block in _residual_blocks(network)] + [network.mid.attn_1.proj_out]:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


def _lay_beside_constants(conv: nn.Conv2d, plus: Tensor, rows: Tensor, constant: Tensor) -> Tensor:
    """Make a 1 x 1 convolution give + and - of a linear map, and constants.

    Args:
        conv: its other channels stay as they are.
        plus: (n,) the channels of +; those of - are the next ones.
        rows: (n, inputs) the map of its first inputs.
        constant: the channels of +LOUD; those of -LOUD are the next ones.

    Returns:
        (out_channels,) bool, where the constants are.
    """
    assert conv.bias is not None
    loud = torch.zeros(conv.out_channels, dtype=torch.bool)
    for sign, offset in ((1.0, 0), (-1.0, 1)):
        conv.weight[plus + offset] = 0.0
        conv.weight[plus + offset, : rows.shape[1], 0, 0] = sign * rows
        conv.bias[plus + offset] = 0.0
        conv.weight[constant + offset] = 0.0
        conv.bias[constant + offset] = sign * LOUD
        loud[constant + offset] = True
    return loud


def _identity(conv: nn.Conv2d, count: int) -> None:
    """The first `count` channels pass."""
    middle = conv.kernel_size[0] // 2
    channel = torch.arange(count)
    conv.weight[:count] = 0.0
    conv.weight[channel, channel, middle, middle] = 1.0
    assert conv.bias is not None
    conv.bias[:count] = 0.0


def _gather(conv: nn.Conv2d, count: int) -> None:
    """2 x 2 cells of the first `count` channels side by side: upper left, upper right, lower left, lower right."""
    channel = torch.arange(count)
    assert conv.bias is not None
    conv.weight[: 4 * count] = 0.0
    conv.bias[: 4 * count] = 0.0
    for tap, (y, x) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        conv.weight[tap * count + channel, channel, y, x] = 1.0


class Paths(NamedTuple):
    """Which channels of the UNet's first and last features carry what."""

    copies: Tensor  # (latent channels,) of its first feature: the noisy latent
    loud: Tensor  # of its first feature: +LOUD and -LOUD in turn
    free: Tensor  # of its first feature


def paths(unet: Trunk) -> Paths:
    """The channels of a UNet, or of the copy of its half, that `write_unet` has written."""
    dims = unet.dims
    size, per = dims.channels // dims.norm_groups, -(-dims.latent_channels // dims.norm_groups)  # per group
    if size < per + 2 or size < 2 * per + 2:
        raise ValueError(f"no room for {dims.latent_channels} latent channels in {dims.norm_groups} groups of {size}")
    latent = torch.arange(dims.latent_channels)
    start = torch.arange(dims.norm_groups) * size
    copies = start[latent // per] + latent % per
    loud = torch.stack([start + per, start + per + 1], dim=1).flatten()
    taken = torch.zeros(dims.channels, dtype=torch.bool)
    taken[copies] = taken[loud] = True
    return Paths(copies, loud, (~taken).nonzero().flatten())


@torch.no_grad()
def write_unet(unet: UNet) -> list[tuple[Tensor, Tensor]]:
    """Make a UNet without connectors predict its input as the noise, exactly; all else starts at nothing.

    Returns:
        Weights and, for each, where it may change (1) or not (0): what multiplies the constants stays zero.
    """
    dims, way = unet.dims, paths(unet)
    for module in unet.modules():
        if isinstance(module, blocks.ResBlock):
            nn.init.zeros_(module.out_layers[3].weight)
            nn.init.zeros_(module.out_layers[3].bias)
        elif isinstance(module, blocks.SpatialTransformer):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
    loud = torch.zeros(dims.channels, dtype=torch.bool)
    loud[way.loud] = True
    signs = torch.tensor([LOUD, -LOUD]).repeat(dims.norm_groups)
    latent = torch.arange(dims.latent_channels)

    first = unet.input_blocks[0][0]
    first.weight[~_among(way.free, dims.channels)] = 0.0
    first.weight[way.copies, latent, 1, 1] = 1.0
    first.bias.zero_()
    first.bias[way.loud] = signs
    second = unet.input_blocks[1][0]
    let_through(second.in_layers[0], loud)
    second.out_layers[3].bias[way.loud] = -signs  # the constants go no further

    last = unet.output_blocks[-1][0]
    decoder = last.skip_connection.in_channels - dims.channels
    let_through(last.in_layers[0], torch.cat([torch.zeros(decoder, dtype=torch.bool), loud]))
    size, per = dims.channels // dims.norm_groups, -(-dims.latent_channels // dims.norm_groups)
    plus = torch.arange(dims.norm_groups).repeat_interleave(per)[: dims.latent_channels] * size + 2 * (latent % per)
    constant = (torch.arange(dims.norm_groups)[:, None] * size + 2 * per + torch.arange(2)).flatten()
    skip = last.skip_connection
    skip.weight[:, decoder:] = 0.0
    skip.weight[constant] = 0.0
    skip.bias.zero_()
    for sign, at in ((1.0, plus), (-1.0, plus + 1)):
        skip.weight[at, :decoder] = 0.0
        skip.weight[at, decoder + way.copies, 0, 0] = sign
    skip.bias[constant] = signs
    let_through(unet.out[0], _among(constant, dims.channels))
    out = unet.out[2]
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    out.weight[latent, plus, 1, 1] = 1.0
    out.weight[latent, plus + 1, 1, 1] = -1.0

    may_change = torch.ones_like(skip.weight)
    may_change[:, decoder + way.loud] = 0.0
    return [(skip.weight, may_change)]


def _among(indices: Tensor, count: int) -> Tensor:
    mask = torch.zeros(count, dtype=torch.bool)
    mask[indices] = True
    return mask
