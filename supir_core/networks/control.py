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

    def hint(self, z_control: Tensor) -> Tensor:
        """What the branch sees of the degraded photo, the same in every step.

        Args:
            z_control: (B, 4, h, w) latent of the degraded photo, times the VAE scale.

        Returns:
            (B, channels, h, w).
        """
        return self.input_hint_block(z_control)

    def forward(self, x: Tensor, t: Tensor, text: Tensor, vector: Tensor, hint: Tensor) -> list[Tensor]:
        """The outputs of every input block and of the middle block.

        Args:
            x: (B, 4, h, w) noisy latent, scaled as for the UNet.
            t: (B,) timesteps.
            text: (B, L, text width) what `read` gave.
            vector: (B, vector_dim).
            hint: (B, channels, h, w) what `hint` gave.
        """
        emb, texts = self.embed(t, vector), self.texts(text)
        h = self.input_blocks[0](x, emb, texts) + hint
        features = [h]
        for block in list(self.input_blocks)[1:]:
            h = block(h, emb, texts)
            features.append(h)
        return [*features, self.middle_block(h, emb, texts)]
