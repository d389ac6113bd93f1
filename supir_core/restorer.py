"""THE MAIN PATH of one photo. Read `Restorer.restore` first, then `Restorer.run`; the rest follows from them.

photo -> size rule -> x_lq
z_control = mode of the degradation-robust encoder(x_lq)       what the control branch sees
x_stage1  = decode(z_control)                                  stage 1: a cleaned, soft picture
z_center  = sample of the encoder(x_stage1)                    what restoration guidance pulls towards
cond, uncond = text(caption + suffix), text(negative prompt)
z         = restoration-guided sampling, in overlapping windows
x_out     = decode(z), with the colours of x_stage1, resized to the size asked for
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from supir_core import image
from supir_core.color import COLOR_FIXES
from supir_core.conditioning import Conditioning, condition
from supir_core.denoiser import Denoiser, Subject, denoise_together, latent_grid
from supir_core.errors import InputError
from supir_core.models import DEMO_MODEL
from supir_core.noise import Noise, photo_noise
from supir_core.presets import Preset
from supir_core.samplers import Sampler, euler, run_together
from supir_core.schedule import ddpm_sigmas
from supir_core.weights import Networks, load_networks


@dataclass(frozen=True)
class Photo:
    """One photo and the look it is to get."""

    photo_id: str  # with the preset's seed: all of its randomness
    pixels: np.ndarray  # (H, W, 3) uint8, sRGB, upright
    preset: Preset
    caption: str = ""


@dataclass(frozen=True)
class Job:
    """One photo as the networks see it."""

    x_lq: Tensor  # (1, 3, H, W) in [-1, 1], sides multiples of 64
    captions: tuple[str, ...]  # one, or one per window of the latent grid
    preset: Preset
    noise: Noise


@dataclass(frozen=True)
class _Prepared:
    """A job after stage 1."""

    job: Job
    x_stage1: Tensor  # (1, 3, H, W)
    z_center: Tensor  # (1, 4, h, w)
    subject: Subject


class Restorer:
    """Resident networks that restore photos.

    Args:
        networks: as `load_networks` gives them.
        batch: at most this many windows in one call of the networks.
    """

    def __init__(self, networks: Networks, batch: int = 4):
        self.networks = networks
        self.batch = batch
        self._denoiser = Denoiser(networks.unet, networks.control)
        parameter = next(networks.vae.parameters())
        self._device, self._vae_dtype = parameter.device, parameter.dtype

    @classmethod
    def load(
        cls, model: str = DEMO_MODEL, *, device: str | None = None, dtype: str | None = None, batch: int = 4
    ) -> Restorer:
        """A restorer with the weights of a model.

        Args:
            model: a directory with an SDXL base and a SUPIR file, or `demo`.
            device: `cuda`, `cuda:1`, `cpu`; the first GPU if there is one.
            dtype: of the networks, `float32`, `bfloat16` or `float16`; bfloat16 on a GPU, float32 elsewhere.
            batch: at most this many windows in one call of the networks.

        Raises:
            WeightsError: the weights are missing, wrong or damaged.
            InputError: no such device or dtype.
        """
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        name = dtype or ("bfloat16" if chosen.startswith("cuda") else "float32")
        if name not in ("float32", "bfloat16", "float16"):
            raise InputError(f"unknown dtype {name!r}", hint="float32, bfloat16 or float16", code="dtype")
        if chosen.startswith("cuda") and not torch.cuda.is_available():
            raise InputError("no CUDA device is available", hint="leave --device out to use the CPU", code="device")
        network_dtype: torch.dtype = getattr(torch, name)
        vae_dtype = torch.float32 if network_dtype == torch.float32 else torch.bfloat16  # float16 overflows in the VAE
        networks = load_networks(model, torch.device(chosen), network_dtype, vae_dtype)
        return cls(networks, batch)

    def restore(self, photos: Sequence[Photo], on_step: Callable[[int], None] = lambda step: None) -> list[Tensor]:
        """Restored photos.

        Each result depends on its photo, preset and weights alone: photos share the networks' batches, not randomness.

        Args:
            photos: of any sizes and presets.
            on_step: called after each sampling step with the number of steps done.

        Returns:
            One (1, 3, height, width) float32 in [-1, 1] per photo, on the CPU, at the size its preset asks for.
        """
        sizes = [plan_photo(photo) for photo in photos]
        jobs = [
            Job(
                image.to_tensor(photo.pixels, size.network_height, size.network_width),
                (photo.caption,),
                photo.preset,
                photo_noise(photo.photo_id, photo.preset.sampling.seed),
            )
            for photo, size in zip(photos, sizes, strict=True)
        ]
        return [
            image.resize_back(x_out, size.height, size.width).cpu()
            for x_out, size in zip(self.run(jobs, on_step), sizes, strict=True)
        ]

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job], on_step: Callable[[int], None] = lambda step: None) -> list[Tensor]:
        """The path from x_lq to x_out.

        Returns:
            One (1, 3, H, W) float32 per job, the size of its x_lq, unclipped.
        """
        prepared = [self._prepare(job) for job in jobs]
        subjects = [p.subject for p in prepared]
        latents = run_together(
            [_sampler(p) for p in prepared],
            lambda queries: denoise_together(
                self._denoiser, [subjects[i] for i in queries], list(queries.values()), self.batch
            ),
            on_step,
        )
        return [self._finish(p, z) for p, z in zip(prepared, latents, strict=True)]

    def stage1(self, x_lq: Tensor) -> tuple[Tensor, Tensor]:
        """z_control (1, 4, h, w), times the VAE scale, and the picture it decodes to (1, 3, H, W), both float32."""
        posterior = self.networks.vae.encode_degraded(x_lq.to(self._device, self._vae_dtype))
        z_control = posterior.mean * self.networks.dims.vae.latent_scale
        return z_control.float(), self._decode(z_control)

    def _prepare(self, job: Job) -> _Prepared:
        z_control, x_stage1 = self.stage1(job.x_lq)
        posterior = self.networks.vae.encode(x_stage1.to(self._vae_dtype))
        noise = job.noise("posterior", posterior.mean.shape).to(posterior.mean)
        z_center = (posterior.sample(noise) * self.networks.dims.vae.latent_scale).float()
        grid = latent_grid(z_control, job.preset)
        if len(job.captions) not in (1, len(grid)):
            raise InputError(
                f"{len(job.captions)} captions for {len(grid)} windows",
                hint="give one, or one per window",
                code="captions",
            )
        text = job.preset.text
        cond = self._condition([caption + text.positive for caption in job.captions])
        return _Prepared(
            job, x_stage1, z_center, Subject(z_control, cond, self._condition([text.negative]), job.preset)
        )

    def _condition(self, prompts: list[str]) -> Conditioning:
        return condition(self.networks.text, self.networks.dims.text.size_embedding, prompts)

    def _finish(self, prepared: _Prepared, z: Tensor) -> Tensor:
        fix = COLOR_FIXES[prepared.job.preset.color.fix]
        return fix(self._decode(z), prepared.x_stage1)

    def _decode(self, z: Tensor) -> Tensor:
        return self.networks.vae.decode(z.to(self._vae_dtype) / self.networks.dims.vae.latent_scale).float()


def plan_photo(photo: Photo) -> image.SizePlan:
    """The sizes of a photo under its preset."""
    height, width = photo.pixels.shape[:2]
    size = photo.preset.size
    return image.plan_size(
        height, width, upscale=size.upscale, min_size_px=size.min_size_px, short_side_px=size.short_side_px
    )


def _sampler(prepared: _Prepared) -> Sampler:
    preset = prepared.job.preset
    return euler(
        ddpm_sigmas(preset.sampling.num_steps),
        prepared.z_center,
        prepared.job.noise,
        tau_r=preset.pull.tau_r,
        churn=preset.sampling.churn,
        s_noise=preset.sampling.s_noise,
    )
