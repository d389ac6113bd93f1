"""Sigmas, snapping, guidance scales, windows and their weights: everything that needs no weights."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from supir_core.denoiser import Denoiser
from supir_core.guidance import linear_in_sigma
from supir_core.networks.dims import DEMO
from supir_core.schedule import ddpm_sigmas, karras_sigmas, sigma_table, timesteps
from supir_core.tiling import gaussian_weights, tile_grid
from supir_core.weights import build_networks
from tests.parity.golden import GoldenFile
from tests.parity.limits import EXACT, SIGMAS, guidance_scales
from tests.parity.report import Report


def check_schedules(file: GoldenFile, report: Report) -> None:
    """Every table, whatever its number of steps or its size."""
    _check_sigmas(file, report)
    _check_snapping(file, report)
    _check_guidance(file, report)
    _check_weights(file, report)
    _check_windows(file, report)


def _check_sigmas(file: GoldenFile, report: Report) -> None:
    with report.group(file, "ddpm", "sigmas", SIGMAS) as group:
        for name, steps in _numbered(file, r"ddpm\.sigmas\.n(\d+)(?:_with_zero)?"):
            group.compare(name, ddpm_sigmas(steps))
    with report.group(file, "ddpm", "timesteps", EXACT) as group:
        for name, steps in _numbered(file, r"ddpm\.timesteps\.n(\d+)"):
            group.compare(name, torch.tensor(sorted(timesteps(steps))))
    with report.group(file, "karras", "sigmas", SIGMAS) as group:
        for name, steps in _numbered(file, r"karras\.sigmas\.n(\d+)"):
            group.compare(name, karras_sigmas(steps))
    with report.group(file, "denoiser", "table", SIGMAS) as group:
        if "denoiser.sigmas_ascending" in file:
            group.compare("denoiser.sigmas_ascending", sigma_table())


def _check_snapping(file: GoldenFile, report: Report) -> None:
    file.look_at(["quant.sigma_in"])
    names = [name for name in ("quant.idx", "quant.sigma_out") if name in file]
    for name, limit in zip(names, (EXACT, SIGMAS), strict=False):
        with report.group(file, "quant", name.removeprefix("quant."), limit) as group:
            networks = build_networks(DEMO)  # snapping needs no weights
            index = Denoiser(networks.unet, networks.control).snap(file["quant.sigma_in"])
            group.compare(name, index if limit is EXACT else sigma_table()[index])


def _check_guidance(file: GoldenFile, report: Report) -> None:
    for name in file.starting_with("linear_cfg."):
        if match := re.fullmatch(r"linear_cfg\.scale(-?[\d.]+)_min(-?[\d.]+)", name):
            start, end = float(match[1]), float(match[2])
            with report.group(file, name.removeprefix("linear_cfg."), "linear_cfg", guidance_scales(start, end)) as g:
                ours = [linear_in_sigma(start, end, sigma) for sigma in file["quant.sigma_in"].tolist()]
                g.compare(name, torch.tensor(ours, dtype=torch.float64))


def _check_weights(file: GoldenFile, report: Report) -> None:
    """`gaussian.tN`: all weights of a square window, or its middle row or column."""
    parts: dict[str, Callable[[Tensor], Tensor]] = {
        "": lambda weights: weights,
        ".row_mid": lambda weights: weights[weights.shape[0] // 2],
        ".col_mid": lambda weights: weights[:, weights.shape[1] // 2],
    }
    with report.group(file, "gaussian", "weights", SIGMAS) as group:
        for part, take in parts.items():
            for name, size in _numbered(file, rf"gaussian\.t(\d+){re.escape(part)}"):
                group.compare(name, take(gaussian_weights(size, size)))


def _check_windows(file: GoldenFile, report: Report) -> None:
    """The boxes stand in the JSON, as (h0, h1, w0, w1) in the order of the sampler."""
    with report.group(file, "sliding", "windows", EXACT) as group:
        for i, entry in enumerate(file.optional("windows", [])):
            grid = tile_grid(entry["h"], entry["w"], entry["size"], entry["stride"])
            ours = [[w.top, w.top + w.height, w.left, w.left + w.width] for w in grid]
            golden = [list(box) for box in entry["coords_h0_h1_w0_w1"]]
            wrong = sum(a != b for a, b in zip(ours, golden, strict=False)) + abs(len(ours) - len(golden))
            group.record(f"windows[{i}]", wrong)


def _numbered(file: GoldenFile, pattern: str) -> list[tuple[str, int]]:
    """Tensors whose whole name matches, with the number in it."""
    found = [(name, re.fullmatch(pattern, name)) for name in file.starting_with("")]
    return [(name, int(match[1])) for name, match in found if match]
