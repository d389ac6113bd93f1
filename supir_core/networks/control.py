"""SUPIR's control branch: the UNet's first half, fed the degraded photo's clean latent as a hint."""

from __future__ import annotations

from torch import Tensor, nn

from supir_core.networks.dims import UNetDims
from supir_core.networks.unet import Trunk


class ControlBranch(Trunk):
    """Feature maps that tell the UNet what the photo shows (paper section 3.2)."""

    def __init__(self, dims: UNetDims):
        super().__init__(dims)
        self.input_hint_block = nn.Sequential(nn.Conv2d(dims.latent_channels, dims.channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, vector: Tensor, z_control: Tensor) -> list[Tensor]:
        """The outputs of every input block and of the middle block.

        Args:
            x: (B, 4, h, w) noisy latent, scaled as for the UNet.
            t: (B,) timesteps.
            context: (B, L, context_dim).
            vector: (B, vector_dim).
            z_control: (B, 4, h, w) latent of the degraded photo, times the VAE scale.
        """
        emb = self.embed(t, vector)
        h = self.input_blocks[0](x, emb, context) + self.input_hint_block(z_control)
        features = [h]
        for block in list(self.input_blocks)[1:]:
            h = block(h, emb, context)
            features.append(h)
        return [*features, self.middle_block(h, emb, context)]
