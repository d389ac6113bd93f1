"""From a photo's tensor to the restored one, through `Restorer.run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from supir_core.conditioning import condition
from supir_core.networks.dims import ModelDims
from supir_core.presets import Preset
from supir_core.restorer import Job, Restorer
from tests.parity import build
from tests.parity.cases import injected_noise, preset, rn
from tests.parity.golden import GoldenFile
from tests.parity.inexact_tiling import with_published_tiling
from tests.parity.limits import DECODE_CHAIN, END_TO_END, TEXT, VAE
from tests.parity.report import Report
from tests.parity.vae import INEXACT_TILING, PUBLISHED_TILING

STAGE1_SEED = 10000  # counts from the file's seed


def check_end_to_end(file: GoldenFile, report: Report) -> None:
    """Stage 1, the conditioning and every case; those with the published VAE tiling with a copy of it, ours as PSNR."""
    restorer = Restorer(build.networks(dims(file)))
    file.look_at(name for name in ("image", "tiled.image") if name in file)
    _check_stage1(file, report, restorer)
    _check_conditioning(file, report, restorer)
    for case in file.setting("cases"):
        name = case["name"]
        matching, title = restorer, "result"
        if case.get("encoder_tile_size"):
            report.differ(file, name, f"{name}.result", restore(file, case, restorer), INEXACT_TILING)
            matching, title = _with_published_tiling(restorer, case), PUBLISHED_TILING
        with report.group(file, name, title, END_TO_END) as group:
            group.compare(f"{name}.result", restore(file, case, matching))


def _with_published_tiling(restorer: Restorer, case: Mapping[str, Any]) -> Restorer:
    """The same networks, but for the tiling of the autoencoder."""
    networks = restorer.networks
    vae = with_published_tiling(networks.vae, case["encoder_tile_size"], case["decoder_tile_size"])
    return Restorer(replace(networks, vae=vae))


def dims(file: GoldenFile) -> ModelDims:
    """The sizes of the file's networks."""
    vae = file.setting("vae", "vae_s")
    return ModelDims(
        build.vae_dims(vae, file.setting("scale_factor")),
        build.unet_dims(file.setting("net", "net_s"), latent_channels=vae["z_channels"]),
        build.text_dims(file.setting("text")),
    )


def _check_stage1(file: GoldenFile, report: Report, restorer: Restorer) -> None:
    """Each link from the golden end of the one before, so that rounding does not add up; the cases run the chain."""
    vae, scale = restorer.networks.vae, restorer.networks.dims.vae.latent_scale
    with report.group(file, "stage1", "z_denoise_mode", VAE) as group:
        if "z_denoise_mode" in file:
            group.compare("z_denoise_mode", restorer.preview(file["image"]).z_control)
    with report.group(file, "stage1", "denoise_stage1", DECODE_CHAIN) as group:
        if "denoise_stage1" in file:
            given = "z_denoise_mode" in file
            found = vae.decode(file["z_denoise_mode"] / scale) if given else restorer.preview(file["image"]).x_stage1
            group.compare("denoise_stage1", found)
    with report.group(file, "stage1", "z_stage1", END_TO_END) as group:
        if "z_stage1" in file:
            given = "denoise_stage1" in file
            posterior = vae.encode(file["denoise_stage1"] if given else restorer.preview(file["image"]).x_stage1)
            noise = rn(file.setting("seed") + STAGE1_SEED, posterior.mean.shape)
            group.compare("z_stage1", posterior.sample(noise) * scale)


def _check_conditioning(file: GoldenFile, report: Report, restorer: Restorer) -> None:
    prompts = {"cond": file.setting("prompt", "e2e_prompt") + file.setting("p_p"), "uncond": file.setting("n_p")}
    for which, prompt in prompts.items():
        with report.group(file, "text", which, TEXT) as group:
            cond = condition(restorer.networks.text, restorer.networks.dims.text.size_embedding, [prompt])
            for name, ours in ((f"{which}.crossattn", cond.context), (f"{which}.vector", cond.vector)):
                if name in file:
                    group.compare(name, ours)


def restore(file: GoldenFile, case: Mapping[str, Any], restorer: Restorer) -> Tensor:
    """The samples of a case, restored together as photos of their own."""
    pictures = _pictures(file, case)
    count = max(case.get("num_samples", 1), len(pictures))
    latent_side = max(pictures.shape[-2:]) // restorer.networks.dims.vae.factor
    look = _preset(file, case, latent_side)
    prompts = case.get("prompts") or [file.setting("prompt", "e2e_prompt")]
    jobs = [
        Job(
            pictures[k % len(pictures)][None],
            _captions(prompts[k % len(prompts)]),
            look,
            injected_noise(case["noise_seed_base"], count, k),
        )
        for k in range(count)
    ]
    return torch.cat([restored.image for restored in restorer.run(jobs)])


def _pictures(file: GoldenFile, case: Mapping[str, Any]) -> Tensor:
    """A case starts from the picture of its result's size: `image`, or `tiled.image`."""
    size = file[f"{case['name']}.result"].shape[-2:]
    for name in ("tiled.image", "image") if case.get("tile_size") else ("image", "tiled.image"):
        if name in file and file[name].shape[-2:] == size:
            return file[name]
    raise ValueError(f"no picture of {size[0]}x{size[1]} to start from")


def _captions(prompt: str | list[str]) -> tuple[str, ...]:
    """One prompt for the picture, or one per window."""
    return (prompt,) if isinstance(prompt, str) else tuple(prompt)


def _preset(file: GoldenFile, case: Mapping[str, Any], latent_side: int) -> Preset:
    guidance, control = case["cfg_scale"], case["control_scale"]
    return preset(
        num_steps=case["num_steps"],
        churn=case["s_churn"],
        s_noise=case["s_noise"],
        guidance=(case["cfg_scale_start"] if case.get("use_linear_CFG") else guidance, guidance),
        restore_cfg=case["restoration_scale"],
        control=(case["control_scale_start"] if case.get("use_linear_control_scale") else control, control),
        tile=(case["tile_size"], case["tile_stride"]) if case.get("tile_size") else (latent_side, latent_side),
        color=case["color_fix_type"].lower(),
        positive=file.setting("p_p"),
        negative=file.setting("n_p"),
    )
