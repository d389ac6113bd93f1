"""Pictures <-> latents: the VAE with its scale and number type, whole where memory allows, else by strips of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core import vae_strips
from supir_core.memory import free_memory, is_out_of_memory
from supir_core.networks.vae import Encoder, Posterior, Vae

MAPS_AT_ONCE = 4  # feature maps of the largest size that a whole run holds at its peak
DEFAULT_BUDGET_BYTES = 4 * 2**30


class Stage1(NamedTuple):
    """A photo after the degradation-robust encoder."""

    z_control: Tensor  # (1, 4, h, w) what the control branch sees
    x_stage1: Tensor  # (1, 3, H, W) the cleaned, soft picture


class Autoencoder:
    """Encodes and decodes pictures of any size.

    A picture whose whole run would exceed the budget, or does not fit into the device's memory, goes by strips: the
    same result within rounding (`vae_strips`).

    Args:
        vae: the networks.
        latent_scale: latents are times this.
        budget_bytes: what feature maps may take.
    """

    def __init__(self, vae: Vae, latent_scale: float, budget_bytes: int = DEFAULT_BUDGET_BYTES):
        parameter = next(vae.parameters())
        self._vae, self._scale, self._budget = vae, latent_scale, budget_bytes
        self._device, self._dtype = parameter.device, parameter.dtype

    def stage1(self, x_lq: Tensor, clean: str = "denoise") -> Stage1:
        """What control, pull, colours and captions start from.

        Args:
            x_lq: (1, 3, H, W) in [-1, 1], sides multiples of 64.
            clean: `denoise`, or `none` to take the photo as it is.
        """
        if clean == "none":
            return Stage1(self.encode(x_lq).mean, x_lq.to(self._device))
        z_control = self.encode_degraded(x_lq)
        return Stage1(z_control, self.decode(z_control))

    def encode_degraded(self, x: Tensor) -> Tensor:
        """The clean latent (1, 4, h, w) behind a degraded picture (1, 3, H, W), float32, times the scale."""
        return (self._posterior(self._vae.denoise_encoder, x).mean * self._scale).float()

    def encode(self, x: Tensor) -> Posterior:
        """The latents of a clean picture, float32, times the scale."""
        posterior = self._posterior(self._vae.encoder, x)
        return Posterior((posterior.mean * self._scale).float(), (posterior.std * self._scale).float())

    def decode(self, z: Tensor) -> Tensor:
        """The picture (1, 3, H, W) of a latent that is times the scale, float32."""
        z = self._vae.post_quant_conv(z.to(self._device, self._dtype) / self._scale)
        decoder = self._vae.decoder
        height, width = (side * self._vae.dims.factor for side in z.shape[2:])
        return self._in_memory(
            lambda: decoder(z), lambda: vae_strips.decode(decoder, z, self._budget), height, width
        ).float()

    def _posterior(self, encoder: Encoder, x: Tensor) -> Posterior:
        x = x.to(self._device, self._dtype)
        height, width = x.shape[2:]
        out = self._in_memory(lambda: encoder(x), lambda: vae_strips.encode(encoder, x, self._budget), height, width)
        return self._vae.posterior(out)

    def _in_memory(
        self, whole: Callable[[], Tensor], by_strips: Callable[[], Tensor], height: int, width: int
    ) -> Tensor:
        """`whole` if it fits, else `by_strips`, for pictures of height x width pixels."""
        dims = self._vae.dims
        channels = dims.channels * max(dims.channel_mult[:2])  # the finest level's input comes from the next one
        if MAPS_AT_ONCE * channels * height * width * self._dtype.itemsize <= self._budget:
            try:
                return whole()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            free_memory()
        return by_strips()


def default_budget_bytes(device: torch.device) -> int:
    """Half of what the device has free; a fixed amount on the processor."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return DEFAULT_BUDGET_BYTES
