"""The samplers, step by step: guidance, churn, control schedule, batches and windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from supir_core.conditioning import Conditioning
from supir_core.denoiser import Denoiser, denoise_together, latent_tiling
from supir_core.noise import Noise
from supir_core.presets import Preset
from supir_core.samplers import Query, Sampler, dpmpp_2m_sde, euler, run_together
from supir_core.schedule import ddpm_sigmas, karras_sigmas
from tests.parity import build
from tests.parity.cases import injected_noise, preset
from tests.parity.golden import GoldenFile
from tests.parity.limits import SAMPLERS
from tests.parity.report import Report

BATCH = 4  # windows per call of the networks; the results do not depend on it
EULER, DPMPP, TILED = ("edm", "tedm"), ("dpm", "tdpm"), ("tedm", "tdpm")


def check_samplers(file: GoldenFile, report: Report) -> None:
    """Every case."""
    text = ("cond.crossattn", "cond.vector", "uncond.crossattn", "uncond.vector")
    file.look_at(text)
    for case in file.setting("cases"):
        name = case["name"]
        with report.group(file, name, case["kind"], SAMPLERS) as group:
            rows = [file[part] for part in text]
            result, starts = sample(file, case, Conditioning(*rows[:2]), Conditioning(*rows[2:]))
            group.compare(f"{name}.result", result)
            if f"{name}.x_start_of_step" in file:
                group.compare(f"{name}.x_start_of_step", starts[:: case.get("x_start_of_step_stride", 1)])


def sample(
    file: GoldenFile, case: Mapping[str, Any], cond: Conditioning, uncond: Conditioning
) -> tuple[Tensor, Tensor]:
    """Run a case; its samples are photos that are driven together.

    Returns:
        The result (B, C, h, w), and what every step started from (steps, B, C, h, w).
    """
    noise, lq = file[f"{case['name']}.noise"], file[f"{case['name']}.lq"]
    centre = f"{case['name']}.x_center"
    x_center = file[centre] if centre in file else torch.zeros_like(noise)
    batch = len(noise)
    look = case_preset(file, case, max(noise.shape[-2:]))
    dims = build.unet_dims(file.setting("net", "net_s"), latent_channels=noise.shape[1])
    denoiser = Denoiser(build.unet(dims), build.control(dims))
    tiling = latent_tiling(noise, look.tile, lambda height, width: height * width)
    windows = len(tiling.windows)
    subjects = [
        denoiser.subject(
            lq[k : k + 1],
            _rows(cond, 0, windows) if case.get("local") else _rows(cond, k),
            _rows(uncond, 0),
            look,
            tiling,
        )
        for k in range(batch)
    ]
    noises = [injected_noise(case["noise_seed_base"], batch, k, noise) for k in range(batch)]
    trace: list[dict[int, Query]] = []

    def denoise(queries: dict[int, Query]) -> list[Tensor]:
        trace.append(queries)
        return denoise_together(denoiser, [subjects[i] for i in queries], list(queries.values()), BATCH)

    samplers = [_sampler(case["kind"], look, x_center[k : k + 1], noises[k]) for k in range(batch)]
    result = torch.cat(run_together(samplers, denoise))
    starts = [
        torch.cat([before_churn(query, step, noises[k], look.sampling.s_noise) for k, query in queries.items()])
        for step, queries in enumerate(trace)
    ]
    return result, torch.stack(starts)


def _sampler(kind: str, look: Preset, x_center: Tensor, noise: Noise) -> Sampler:
    """The published DPM++ sampler has no pull, whatever a case says of it."""
    if kind in DPMPP:
        return dpmpp_2m_sde(
            karras_sigmas(look.sampling.num_steps),
            x_center,
            noise,
            lambda step, sigma, sigma_next: noise(f"step-{step}", x_center.shape),
            tau_r=None,
            eta=look.sampling.eta,
            s_noise=look.sampling.s_noise,
        )
    return euler(
        ddpm_sigmas(look.sampling.num_steps),
        x_center,
        noise,
        tau_r=look.pull.tau_r,
        churn=look.sampling.churn,
        s_noise=look.sampling.s_noise,
    )


def case_preset(file: GoldenFile, case: Mapping[str, Any], latent_side: int) -> Preset:
    """A case's settings; without windows the tile is the whole latent."""
    if case["kind"] not in (*EULER, *DPMPP):
        raise ValueError(f"unknown kind of sampler {case['kind']!r}")
    if case["kind"] in TILED:
        tile = (
            case.get("tile_size") or file.setting("tile_size", "tile_size_latent"),
            case.get("tile_stride") or file.setting("tile_stride", "tile_stride_latent"),
        )
    else:
        tile = (latent_side, latent_side)
    end = case["control_scale"]
    return preset(
        num_steps=case["steps"],
        churn=case["s_churn"],
        s_noise=case["s_noise"],
        guidance=(case["scale"], case["scale_min"]),
        restore_cfg=case["restore_cfg"],
        control=(case["control_scale_start"] if case.get("lin_control") else end, end),
        tile=tile,
    )


def before_churn(query: Query, step: int, noise: Noise, s_noise: float) -> Tensor:
    """What a step started from: its query without the churn noise."""
    if query.sigma_hat == query.sigma:
        return query.x
    spread: float = s_noise * (query.sigma_hat**2 - query.sigma**2) ** 0.5
    return query.x - noise(f"step-{step}", query.x.shape) * spread


def _rows(cond: Conditioning, first: int, count: int = 1) -> Conditioning:
    if len(cond.context) < first + count:
        raise ValueError(f"{first + count} rows of conditioning are needed, {len(cond.context)} are there")
    return Conditioning(*(part[first : first + count] for part in cond))
