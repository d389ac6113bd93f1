"""How fast networks run on a device, and what share of the device's own rate that is.

Every time is the best of several: on a shared machine the others tell of the neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from supir_core.autoencoder import Autoencoder
from supir_core.conditioning import Conditioning
from supir_core.cost import PROMPT_TOKENS, network_cost
from supir_core.denoiser import Denoiser, denoise_together
from supir_core.networks.dims import UNetDims
from supir_core.noise import photo_noise
from supir_core.precision import Precision
from supir_core.presets import Preset
from supir_core.samplers import euler, run_together
from supir_core.schedule import ddpm_sigmas
from supir_core.tiling import published_tiling

MATMUL_SIDE = {"cuda": 8192, "cpu": 1536}  # large enough for the device's full rate
HALVES = 2  # every window runs with and without the prompt

Module = TypeVar("Module", bound=nn.Module)


class StepFigures(NamedTuple):
    """One call of UNet and control branch."""

    batch: int  # windows; the networks see each with and without the prompt
    seconds: float
    tflops_per_s: float
    share: float  # of the device's matmul rate
    peak_bytes: int | None  # beyond the weights; None where the system does not tell


class VaeFigures(NamedTuple):
    """A picture to its latent and back."""

    side_px: int
    encode_s: float
    decode_s: float
    peak_bytes: int | None  # of the decoder


def with_random_weights(
    component: str, build: Callable[[], Module], device: torch.device, precision: Precision
) -> Module:
    """A component of `parts.PREFIXES`, made on its device; its outputs stay of the order of its inputs."""
    with torch.device("meta"):
        module = build()
    module.to(precision.dtype_of(component)).to_empty(device=device)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 1 if name.endswith("weight") else 0)
        else:
            nn.init.normal_(parameter, std=float(parameter[0].numel()) ** -0.5)
    precision.settle(component, module)
    return module


@torch.inference_mode()
def matmul_rate(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    """FLOP/s that a device reaches in a large matrix product."""
    side = MATMUL_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / _best(lambda: a @ b, device, repeats)


@torch.inference_mode()
def step_figures(denoiser: Denoiser, dims: UNetDims, side: int, batch: int, rate: float, repeats: int) -> StepFigures:
    """One call with `batch` windows of side x side cells; `rate` is the device's own, in FLOP/s."""
    rows = HALVES * batch
    x = torch.randn(rows, dims.latent_channels, side, side, device=denoiser.device)
    prompt, hint = denoiser.read(_prompts(dims, rows, denoiser.device)), denoiser.hint(x)
    sigma, scale = torch.full((rows,), 3.0, device=denoiser.device), torch.ones(rows, device=denoiser.device)

    def call() -> Tensor:
        return denoiser(x, sigma, hint, prompt, scale)

    seconds = _best(call, denoiser.device, repeats)
    achieved = rows * network_cost(dims).window(side, side) / seconds
    return StepFigures(batch, seconds, achieved / 1e12, achieved / rate, _peak(call, denoiser.device))


@torch.inference_mode()
def vae_figures(autoencoder: Autoencoder, device: torch.device, side_px: int, repeats: int) -> VaeFigures:
    """A picture of side_px x side_px pixels there and back."""
    x = torch.rand(1, 3, side_px, side_px, device=device) * 2 - 1
    z = autoencoder.encode_degraded(x)
    encode_s = _best(lambda: autoencoder.encode(x), device, repeats)
    decode_s = _best(lambda: autoencoder.decode(z), device, repeats)
    return VaeFigures(side_px, encode_s, decode_s, _peak(lambda: autoencoder.decode(z), device))


@torch.inference_mode()
def against_plain_loop(
    denoiser: Denoiser, dims: UNetDims, preset: Preset, side: int, num_steps: int, repeats: int
) -> tuple[float, float]:
    """Seconds of sampling one untiled latent: our path, and a loop over the same networks that does nothing else."""
    device = denoiser.device
    z = torch.randn(1, dims.latent_channels, side, side, device=device)
    cond, uncond = _prompts(dims, 1, device), _prompts(dims, 1, device)
    sigmas = ddpm_sigmas(num_steps)

    def ours() -> None:
        subject = denoiser.subject(z, cond, uncond, preset, published_tiling(side, side, side, side))
        sampler = euler(sigmas, z, photo_noise("bench", 0), tau_r=4.0, churn=0.0, s_noise=1.0)
        run_together([sampler], lambda queries: denoise_together(denoiser, [subject], list(queries.values()), batch=1))

    def plain() -> None:
        context, vector = (torch.cat(halves).to(denoiser.dtype) for halves in zip(uncond, cond, strict=True))
        unet, control, scale = denoiser.unet, denoiser.control, torch.ones(2, device=device)
        x = torch.randn_like(z) * float(sigmas[0])
        for sigma, sigma_next in pairwise(sigmas.tolist()):
            t = denoiser.snap(torch.tensor([sigma, sigma])).to(device)
            scaled = torch.cat([x, x]).to(denoiser.dtype) / (sigma**2 + 1) ** 0.5
            hint = control.hint(torch.cat([z, z]).to(denoiser.dtype))
            features = control(scaled, t, control.read(context), vector, hint)
            without, with_prompt = unet(scaled, t, unet.read(context), vector, features, scale).float().chunk(2)
            x = x + (without + 4.0 * (with_prompt - without)) * (sigma_next - sigma)

    best = [float("inf"), float("inf")]
    for run in (ours, plain):
        run()
    for _ in range(repeats):  # in turn, so that both meet the same neighbours on the machine
        best = [min(before, _seconds(run, device)) for before, run in zip(best, (ours, plain), strict=True)]
    return best[0], best[1]


def _prompts(dims: UNetDims, rows: int, device: torch.device) -> Conditioning:
    context = torch.randn(rows, PROMPT_TOKENS, dims.context_dim, device=device)
    return Conditioning(context, torch.randn(rows, dims.vector_dim, device=device))


def _best(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    run()  # with what is done only once, such as compiling
    return min(_seconds(run, device) for _ in range(repeats))


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that a run takes beyond what is taken already."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
        before = resident_bytes("VmRSS")
        run()
        return max(0, resident_bytes("VmHWM") - before)
    except OSError:
        return None


def resident_bytes(field: str, pid: int | str = "self") -> int:
    """Memory of a process on Linux: `VmRSS` now, `VmHWM` at most.

    Raises:
        OSError: there is no such process, or this is not Linux.
        ValueError: it has ended.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024
