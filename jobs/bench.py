"""`supir bench`: what the networks reach on this machine, and what tiling costs."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console

from supir_core.autoencoder import Autoencoder, default_budget_bytes
from supir_core.compiled import Compiled
from supir_core.cost import network_cost
from supir_core.denoiser import Denoiser
from supir_core.errors import InputError
from supir_core.networks.control import ControlBranch
from supir_core.networks.dims import DEMO, FULL
from supir_core.networks.unet import UNet
from supir_core.networks.vae import Vae
from supir_core.precision import device_named, precision_named
from supir_core.presets import load_preset
from supir_core.sizes import plan_size
from supir_core.speed import against_plain_loop, matmul_rate, step_figures, vae_figures, with_random_weights
from supir_core.tiling import planned_tiling, published_tiling

DIMS = {"demo": DEMO, "full": FULL}
PLAIN_STEPS = 4
PUBLISHED = (128, 64)  # side and stride of the published tiling, in cells


def core(
    *,
    dims: str,
    tile: int,
    batches: Sequence[int],
    vae_side_px: int,
    device: str | None,
    dtype: str | None,
    compiled: bool,
    threads: int | None,
    repeats: int,
    as_json: bool,
) -> None:
    """Measure the networks with random weights; a table as it comes, and one JSON object last.

    Raises:
        InputError: no such device, or sides that the networks do not take.
    """
    place = device_named(device)
    precision = precision_named(dtype, place)
    sizes = DIMS[dims]
    if threads:
        torch.set_num_threads(threads)
    _check_multiple("--tile", tile, 2 ** (len(sizes.unet.channel_mult) - 1))
    _check_multiple("--vae-side", vae_side_px, sizes.vae.factor)
    console = Console(stderr=True)
    say = _silent if as_json else _say
    with console.status("making random weights"):
        steps: list[Compiled] = []

        def compile_step(step: Any) -> Compiled:
            steps.append(Compiled(step))
            return steps[0]

        denoiser = Denoiser(
            with_random_weights("unet", lambda: UNet(sizes.unet), place, precision),
            with_random_weights("control", lambda: ControlBranch(sizes.unet), place, precision),
            compile_step if compiled else lambda step: step,
        )
        vae = with_random_weights("vae", lambda: Vae(sizes.vae), place, precision)
    facts: dict[str, Any] = {
        "dims": dims, "device": _device_name(place), "dtype": str(precision.networks).removeprefix("torch."),
        "fp8_weights": precision.fp8_weights, "threads": torch.get_num_threads(), "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"), "tile": tile,
    }  # fmt: skip
    stored = ", weights in 8 bits" if precision.fp8_weights else ""
    say(f"{dims} networks, {facts['dtype']}{stored}, {facts['device']}, {facts['threads']} threads")
    with console.status("measuring matrix products"):
        rate = matmul_rate(place, precision.networks, repeats)
    facts["matmul_tflops_per_s"] = rate / 1e12
    say(f"matrix product                {rate / 1e12:10.3f} TFLOP/s")
    say(f"\nUNet and control branch, windows of {tile}x{tile} cells, with and without prompt")
    say("batch    s/call   s/window   TFLOP/s   of matmul    peak memory")
    facts["steps"] = []
    for batch in batches:
        with console.status(f"measuring a batch of {batch}"):
            found = step_figures(denoiser, sizes.unet, tile, batch, rate, repeats)
        facts["steps"].append(found._asdict() | {"seconds_per_window": found.seconds / batch})
        say(
            f"{batch:5d} {found.seconds:9.4f} {found.seconds / batch:10.4f} {found.tflops_per_s:9.3f} "
            f"{found.share:10.0%} {_memory(found.peak_bytes):>14}"
        )
    facts["compiled"], facts["why_not_compiled"] = compiled, steps[0].why_not if steps else ""
    if facts["why_not_compiled"]:
        say(f"not compiled: {facts['why_not_compiled']}")
    with console.status("measuring the sampler against a plain loop"):
        look = load_preset("faithful")
        ours, plain = against_plain_loop(denoiser, sizes.unet, look, tile, PLAIN_STEPS, repeats)
    facts["sampling"] = {"steps": PLAIN_STEPS, "ours_s": ours, "plain_loop_s": plain, "ratio": ours / plain}
    say(f"\nsampling, {PLAIN_STEPS} steps, one window: {ours:.3f} s, {ours / plain:.2f} of a loop over the networks")
    with console.status("measuring the autoencoder"):
        budget = default_budget_bytes(place)
        picture = vae_figures(Autoencoder(vae, sizes.vae.latent_scale, budget), place, vae_side_px, repeats)
    facts["vae"] = picture._asdict()
    say(
        f"autoencoder, {vae_side_px}x{vae_side_px} pixels: encode {picture.encode_s:.3f} s, decode "
        f"{picture.decode_s:.3f} s, peak memory {_memory(picture.peak_bytes)}"
    )
    sys.stdout.write(json.dumps(facts) + "\n")


def _check_multiple(option: str, value: int, factor: int) -> None:
    if value % factor:
        raise InputError(
            f"{option} {value} is not a multiple of {factor}", hint=f"{option} {value // factor * factor or factor}"
        )


def tiling(sizes: Sequence[str], preset: str, as_json: bool) -> None:
    """What the windows of a preset cost at full size, against the picture untiled and the published tiling.

    Raises:
        InputError: a size is not WIDTHxHEIGHT.
        PresetError: no such preset.
    """
    tile = load_preset(preset).tile
    cost = network_cost(FULL.unet)
    overlap = tile.size_lat - tile.stride_lat
    rows = []
    for size in sizes:
        height, width = _cells(size)
        untiled = cost.window(height, width)
        row: dict[str, Any] = {"size": size, "height_lat": height, "width_lat": width, "untiled_tflop": untiled / 1e12}
        for name, found in (
            ("published", published_tiling(height, width, *PUBLISHED)),
            ("planned", planned_tiling(height, width, tile.size_lat, overlap, cost.window)),
        ):
            window = found.windows[0]
            row[name] = {
                "windows": len(found.windows), "height": window.height, "width": window.width,
                "share": len(found.windows) * cost.window(window.height, window.width) / untiled,
            }  # fmt: skip
        rows.append(row)
    if not as_json:
        _say(f"Cost of one call per window at full size; planned: sides up to {tile.size_lat}, overlap {overlap} cells")
        _say("picture        cells      untiled        published              planned")
        for row in rows:
            cells = "{height_lat}x{width_lat}".format(**row)
            both = "".join(
                "{share:9.2f} {windows:4d} of {height}x{width}".format(**row[name]) for name in ("published", "planned")
            )
            _say(f"{row['size']:12} {cells:>9} {row['untiled_tflop']:8.1f} TFLOP{both}")
    sys.stdout.write(json.dumps({"preset": preset, "sizes": rows}) + "\n")


def _cells(size: str) -> tuple[int, int]:
    """Height and width of the latent of a picture, WIDTHxHEIGHT in pixels."""
    try:
        width, height = (int(side) for side in size.lower().split("x"))
        if min(width, height) < 1:
            raise ValueError
        plan = plan_size(height, width, upscale=1.0, min_size_px=64, short_side_px=None)
    except ValueError as error:
        raise InputError(f"{size!r} is not a size", hint="such as 3000x2000") from error
    return plan.network_height // FULL.vae.factor, plan.network_width // FULL.vae.factor


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _silent(line: str) -> None:
    pass


def _memory(size: int | None) -> str:
    return "-" if not size else f"{size / 2**20:,.0f} MiB"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
