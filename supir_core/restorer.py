"""THE MAIN PATH of one photo. Read `Restorer.restore` first, then `Restorer.run`; the rest follows from them.

photo -> size rule -> x_lq
z_control = mode of the degradation-robust encoder(x_lq)       what the control branch sees
x_stage1  = decode(z_control)                                  stage 1: a cleaned, soft picture
z_center  = sample of the encoder(x_stage1)                    what restoration guidance pulls towards
cond, uncond = text(caption + suffix), text(negative prompt)
z         = restoration-guided sampling, in overlapping windows
x_out     = decode(z), with the colours of x_stage1 or x_lq, resized to the size asked for

A photo that is to have several looks comes several times, with one array of pixels: its stage 1 is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supir_core import image
from supir_core.autoencoder import Autoencoder, Stage1, default_budget_bytes
from supir_core.brownian import BrownianPath
from supir_core.color import COLOR_FIXES, FROM_PHOTO
from supir_core.compiled import Compiled
from supir_core.conditioning import Conditioning, condition, join_prompt
from supir_core.cost import network_cost
from supir_core.denoiser import Denoiser, Subject, denoise_together, latent_tiling
from supir_core.errors import PhotoError
from supir_core.latents import Latents
from supir_core.memory import free_memory, is_out_of_memory
from supir_core.models import DEMO_MODEL
from supir_core.networks.text import PROMPT_TOKENS
from supir_core.networks.vae import Posterior
from supir_core.noise import Noise, photo_noise
from supir_core.precision import device_named, precision_named
from supir_core.presets import Preset
from supir_core.samplers import Sampler, dpmpp_2m_sde, euler, run_together
from supir_core.schedule import ddpm_sigmas, karras_sigmas
from supir_core.sizes import SizePlan, planned
from supir_core.tile_captions import caption_windows, per_window
from supir_core.weights import Networks, load_networks

PROMPTS_KEPT = 256  # encoded prompts; the negative one is in every photo


@dataclass(frozen=True)
class Photo:
    """One photo and the look it is to get."""

    key: str  # the sha256 of its file; with the preset's seed: all of its randomness
    pixels: np.ndarray  # (H, W, 3) uint8 or uint16, sRGB, upright; the same array in each look of a photo
    preset: Preset
    caption: str = ""
    tile_captions: tuple[str, ...] = ()  # instead of it: one per window of `caption_windows`
    latents: Latents | None = (
        None  # of its stage 1, if they are known; those of another size or model give another photo
    )


@dataclass(frozen=True)
class Job:
    """One photo as the networks see it."""

    x_lq: Tensor  # (1, 3, H, W) in [-1, 1], sides multiples of 64
    captions: tuple[str, ...]  # one, or one per window of `caption_windows`
    preset: Preset
    noise: Noise
    latents: Latents | None = None


class Restored(NamedTuple):
    """One restored photo."""

    image: Tensor  # (1, 3, height, width) float32 in [-1, 1], on the CPU
    warnings: list[str]  # what a user should know of it: `prompt-truncated`, `negative-prompt-truncated`
    latents: Latents | None = None  # of its stage 1, on the CPU: for other looks of the photo


class _Scene(NamedTuple):
    """What all looks of a photo start from."""

    x_stage1: Tensor  # (1, 3, H, W)
    latents: Latents


@dataclass(frozen=True)
class _Prepared:
    """A job before sampling."""

    job: Job
    scene: _Scene
    z_center: Tensor  # (1, 4, h, w)
    subject: Subject
    warnings: list[str]


class Restorer:
    """Resident networks that restore photos.

    Args:
        networks: as `load_networks` gives them.
        batch: at most this many windows in one call of the networks.
        vae_bytes: what the autoencoder's feature maps may take; larger pictures go by strips.
        compiled: run UNet and control branch through `torch.compile` where that works.
    """

    def __init__(self, networks: Networks, batch: int = 4, vae_bytes: int | None = None, compiled: bool = False):
        self.networks = networks
        self.batch = batch
        self._denoiser = Denoiser(networks.unet, networks.control, Compiled if compiled else lambda step: step)
        self._device = self._denoiser.device
        budget = default_budget_bytes(self._device) if vae_bytes is None else vae_bytes
        self._autoencoder = Autoencoder(networks.vae, networks.dims.vae.latent_scale, budget)
        self._prompts = lru_cache(PROMPTS_KEPT)(self._encode_prompt)

    @classmethod
    def load(
        cls,
        model: str = DEMO_MODEL,
        *,
        device: str | None = None,
        dtype: str | None = None,
        batch: int = 4,
        compiled: bool = False,
    ) -> Restorer:
        """A restorer with the weights of a model.

        Args:
            model: a directory with an SDXL base and a SUPIR file, a packed model directory, or `demo`.
            device: `cuda`, `cuda:1`, `cpu`; the first GPU if there is one.
            dtype: a key of `precision.PRECISIONS`; bfloat16 on a GPU, float32 elsewhere if not given.
            batch: at most this many windows in one call of the networks.
            compiled: run UNet and control branch through `torch.compile` where that works: minutes more at the
                start, then faster steps.

        Raises:
            WeightsError: the weights are missing, wrong or damaged.
            InputError: no such device or dtype.
        """
        place = device_named(device)
        networks = load_networks(model, place, precision_named(dtype, place))
        return cls(networks, batch, compiled=compiled)

    def restore(self, photos: Sequence[Photo], on_step: Callable[[int], None] = lambda step: None) -> list[Restored]:
        """Restored photos, each at the size its preset asks for.

        Each result depends on its photo, preset and weights alone: photos share the networks' batches, not randomness.

        Args:
            photos: of any sizes and presets; those that share an array of pixels share their stage 1.
            on_step: called after each sampling step with the number of steps done.

        Raises:
            PhotoError: not even one window fits into the device's memory (`out-of-memory`).
        """
        sizes = [plan_photo(photo) for photo in photos]
        jobs = [
            Job(
                x_lq,
                photo.tile_captions or (photo.caption,),
                photo.preset,
                photo_noise(photo.key, photo.preset.sampling.seed),
                photo.latents,
            )
            for photo, x_lq in zip(photos, _tensors(photos, sizes), strict=True)
        ]
        try:
            results = self.run(jobs, on_step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            free_memory()
            raise PhotoError(
                f"the networks need more memory than there is: {error}",
                hint="lower size.upscale or tile.size_lat, or use --dtype float8",
                code="out-of-memory",
            ) from error
        return [
            result._replace(image=image.resize_back(result.image, size.height, size.width).cpu())
            for result, size in zip(results, sizes, strict=True)
        ]

    @torch.inference_mode()
    def run(self, jobs: Sequence[Job], on_step: Callable[[int], None] = lambda step: None) -> list[Restored]:
        """The path from x_lq to x_out; pictures of the size of their x_lq, unclipped, on the device."""
        scenes: dict[tuple[int, str], _Scene] = {}  # by x_lq, and by how it is cleaned
        prepared = [self._prepare(job, scenes) for job in jobs]
        subjects = [p.subject for p in prepared]
        latents = run_together(
            [_sampler(p) for p in prepared],
            lambda queries: denoise_together(
                self._denoiser, [subjects[i] for i in queries], list(queries.values()), self.batch
            ),
            on_step,
        )
        return [self._finish(p, z) for p, z in zip(prepared, latents, strict=True)]

    @torch.inference_mode()
    def preview(self, x_lq: Tensor, clean: str = "denoise") -> Stage1:
        """Stage 1 alone: the picture that captions are made from.

        Args:
            x_lq: (1, 3, H, W) in [-1, 1], sides multiples of 64.
            clean: `denoise`, or `none` to take the photo as it is.
        """
        return self._autoencoder.stage1(x_lq, clean)

    def _scene(self, job: Job) -> _Scene:
        clean = job.preset.stage1.clean
        if job.latents is None:
            z_control, x_stage1 = self.preview(job.x_lq, clean)
            posterior = self._autoencoder.encode(x_stage1)
            return _Scene(x_stage1, Latents(z_control, posterior.mean, posterior.std))
        latents = job.latents.to(self._device)
        as_it_is = clean == "none"
        return _Scene(job.x_lq.to(self._device) if as_it_is else self._autoencoder.decode(latents.z_control), latents)

    def _prepare(self, job: Job, scenes: dict[tuple[int, str], _Scene]) -> _Prepared:
        which = id(job.x_lq), job.preset.stage1.clean
        if which not in scenes:
            scenes[which] = self._scene(job)
        z_control, mean, std = scenes[which].latents
        z_center = Posterior(mean, std).sample(job.noise("posterior", mean.shape).to(self._device))
        tiling = latent_tiling(z_control, job.preset.tile, self._window_cost)
        captions = per_window(job.captions, tiling.windows, caption_windows(job.preset.tile, *z_control.shape[-2:]))
        text = job.preset.text
        tokenizer = self.networks.text.tokenizer
        prompts = [join_prompt(tokenizer, caption, text.positive) for caption in captions]
        cond, uncond = self._condition([prompt for prompt, _ in prompts]), self._condition([text.negative])
        subject = self._denoiser.subject(z_control, cond, uncond, job.preset, tiling)
        warnings = ["prompt-truncated"] if any(truncated for _, truncated in prompts) else []
        if tokenizer.count(text.negative) > PROMPT_TOKENS:
            warnings.append("negative-prompt-truncated")
        return _Prepared(job, scenes[which], z_center, subject, warnings)

    def _window_cost(self, height: int, width: int) -> float:
        """Counted when first asked for, which takes seconds at full size: published windows never ask."""
        return network_cost(self.networks.dims.unet).window(height, width)

    def _condition(self, prompts: list[str]) -> Conditioning:
        rows = [self._prompts(prompt) for prompt in prompts]
        return Conditioning(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def _encode_prompt(self, prompt: str) -> Conditioning:
        return condition(self.networks.text, self.networks.dims.text.size_embedding, [prompt])

    def _finish(self, prepared: _Prepared, z: Tensor) -> Restored:
        fix, scene = prepared.job.preset.color.fix, prepared.scene
        reference = prepared.job.x_lq.to(self._device) if fix in FROM_PHOTO else scene.x_stage1
        x_out = COLOR_FIXES[fix](self._autoencoder.decode(z), reference)
        return Restored(x_out, prepared.warnings, scene.latents.to(torch.device("cpu")))


def _tensors(photos: Sequence[Photo], sizes: Sequence[SizePlan]) -> list[Tensor]:
    """What the networks see of each photo: one tensor, if its array of pixels comes more than once in one size."""
    made: dict[tuple[int, int, int], Tensor] = {}
    seen = [(id(p.pixels), s.network_height, s.network_width) for p, s in zip(photos, sizes, strict=True)]
    for which, photo in zip(seen, photos, strict=True):
        if which not in made:
            made[which] = image.to_tensor(photo.pixels, *which[1:])
    return [made[which] for which in seen]


def plan_photo(photo: Photo) -> SizePlan:
    """The sizes of a photo under its preset."""
    height, width = photo.pixels.shape[:2]
    return planned(photo.preset.size, height, width)


def _sampler(prepared: _Prepared) -> Sampler:
    job, sampling = prepared.job, prepared.job.preset.sampling
    if sampling.sampler == "euler":
        return euler(
            ddpm_sigmas(sampling.num_steps),
            prepared.z_center,
            job.noise,
            tau_r=job.preset.pull.tau_r,
            churn=sampling.churn,
            s_noise=sampling.s_noise,
        )
    sigmas = karras_sigmas(sampling.num_steps)
    path = BrownianPath(job.noise, prepared.z_center.shape, 0.0, float(sigmas[0]))
    return dpmpp_2m_sde(
        sigmas,
        prepared.z_center,
        job.noise,
        lambda step, sigma, sigma_next: path.increment(sigma, sigma_next),
        tau_r=job.preset.pull.tau_r,
        eta=sampling.eta,
        s_noise=sampling.s_noise,
    )
