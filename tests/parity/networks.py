"""The UNet, the control branch and the denoiser, with intermediate results for finding a first difference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from supir_core.conditioning import Conditioning
from supir_core.denoiser import Denoiser
from supir_core.networks.blocks import Upsample
from supir_core.networks.control import ControlBranch
from supir_core.networks.unet import UNet
from tests.parity import build
from tests.parity.golden import GoldenFile
from tests.parity.limits import INTERMEDIATE, NETWORKS
from tests.parity.report import Report

_INPUTS = ("x", "lq", "context", "y", "timesteps")
_DENOISER_INPUTS = ("denoiser.x", "denoiser.sigma")


def check_networks(file: GoldenFile, report: Report) -> None:
    """Every case: control features, intermediate results, predicted noise at each control scale, one denoiser call."""
    config = file.setting("config", "net")
    what = r"control\.\d+|inter\..+|unet_out\.scale.+|denoiser\.(?:sigma|x|out)|x|lq|context|y|timesteps"
    for case, names in file.cases(what).items():
        file.look_at(f"{case}.{name}" for name in (*_INPUTS, *_DENOISER_INPUTS))
        with report.group(file, case, "inputs", NETWORKS):
            x, lq, context, y, t = (file[f"{case}.{name}"] for name in _INPUTS)
            dims = build.unet_dims(config, latent_channels=x.shape[1])
            unet, control = build.unet(dims), build.control(dims)
            features = control(x, t, control.read(context), y, control.hint(lq))
            _compare_case(file, report, case, names, unet, control, features)
        present = {_scale(name) for name in names if name.startswith("unet_out.")}
        if absent := {float(scale) for scale in file.optional("control_scales", ())} - present:
            report.fail(file.name, case, "unet_out", f"no tensor has control scale {sorted(absent)} of networks.json")


def _compare_case(
    file: GoldenFile,
    report: Report,
    case: str,
    names: list[str],
    unet: UNet,
    control: ControlBranch,
    features: list[Tensor],
) -> None:
    x, lq, context, y, t = (file[f"{case}.{name}"] for name in _INPUTS)

    def predict(scale: float) -> Tensor:
        eps: Tensor = unet(x, t, unet.read(context), y, features, torch.full((len(x),), scale))
        return eps

    with report.group(file, case, "control", NETWORKS) as group:
        for name in names:
            if name.startswith("control."):
                group.compare(f"{case}.{name}", features[int(name.removeprefix("control."))])
    with report.group(file, case, "inter", INTERMEDIATE) as group:
        paths = [name.removeprefix("inter.") for name in names if name.startswith("inter.")]
        if paths:
            with recorded(unet, paths) as seen:
                predict(1.0)
            for path in paths:
                group.compare(f"{case}.inter.{path}", seen[path])
    with report.group(file, case, "unet_out", NETWORKS) as group:
        for name in names:
            if name.startswith("unet_out.scale"):
                group.compare(f"{case}.{name}", predict(_scale(name)))
    with report.group(file, case, "denoiser", NETWORKS) as group:
        if "denoiser.out" in names:
            noisy, sigma = (file[f"{case}.{name}"] for name in _DENOISER_INPUTS)
            denoiser = Denoiser(unet, control)
            prompt = denoiser.read(Conditioning(context, y))
            found = denoiser(noisy, sigma, denoiser.hint(lq), prompt, torch.ones(len(x)))
            group.compare(f"{case}.denoiser.out", found)


def _scale(name: str) -> float:
    return float(name.removeprefix("unet_out.scale"))


@contextmanager
def recorded(unet: UNet, paths: list[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of parts of the UNet, by path, filled in by the calls made inside the context.

    An output block's is the value before an upsampler and the cross attention in front of it.
    """
    seen: dict[str, Tensor] = {}

    def hook_for(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            seen[path] = output

        return hook

    handles = []
    for path in paths:
        part = unet.get_submodule(path)
        if path.startswith("output_blocks."):
            part = [layer for layer in part.children() if not isinstance(layer, Upsample)][-1]
        handles.append(part.register_forward_hook(hook_for(path)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
