"""Colour fixes, the size rule, and pixels to tensors and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from supir_core import image
from supir_core.color import adain, wavelet
from supir_core.sizes import SizePlan, plan_size
from tests.parity.golden import GoldenFile
from tests.parity.limits import COLOR, EXACT, PICTURES, PIXELS
from tests.parity.report import Report


def check_colorfix(file: GoldenFile, report: Report) -> None:
    """Both fixes, and the two halves of the wavelet split."""
    for case, names in file.cases("content|style|wavelet|wavelet_high|wavelet_low|adain").items():
        file.look_at(f"{case}.{name}" for name in ("content", "style"))
        with report.group(file, case, "colours", COLOR) as group:
            content, style = file[f"{case}.content"], file.tensors.get(f"{case}.style")
            nothing = torch.zeros_like(content)
            ours = {"wavelet_high": wavelet(content, nothing), "wavelet_low": wavelet(nothing, content)}
            if style is not None:
                ours |= {"wavelet": wavelet(content, style), "adain": adain(content, style)}
            for name in names:
                if name not in ("content", "style"):
                    group.compare(f"{case}.{name}", ours[name])


def check_image_io(file: GoldenFile, report: Report) -> None:
    """The size rule on the JSON's list, then every picture."""
    with report.group(file, "size rule", "sizes", EXACT) as group:
        for i, entry in enumerate(file.optional("sizes", [])):
            plan = _plan(entry["h"], entry["w"], entry)
            golden = (entry["tensor_h"], entry["tensor_w"], entry["h0"], entry["w0"])
            group.record(f"sizes[{i}]", sum(a != b for a, b in zip(plan, golden, strict=True)))

    what = r"pixels_hwc_u8|tensor|back_hwc_u8|noisy_tensor|noisy_back_hwc_u8"
    cases = file.cases(what)
    for (case, names), entry in zip(cases.items(), file.setting("pixels"), strict=True):
        file.look_at(f"{case}.{name}" for name in ("pixels_hwc_u8", "noisy_tensor"))
        with report.group(file, case, "tensor", PICTURES) as group:
            pixels = file[f"{case}.pixels_hwc_u8"].numpy()
            plan = _plan(pixels.shape[0], pixels.shape[1], entry)
            if (plan.height, plan.width) != (entry["h0"], entry["w0"]):
                raise ValueError(f"size {plan.height}x{plan.width}, golden is {entry['h0']}x{entry['w0']}")
            if "tensor" in names:
                ours = image.to_tensor(pixels, plan.network_height, plan.network_width)
                group.compare(f"{case}.tensor", ours[0])
        with report.group(file, case, "back", PIXELS) as group:
            for name in ("tensor", "noisy_tensor"):
                back = name.replace("tensor", "back_hwc_u8")
                if back in names:
                    resized = image.resize_back(file[f"{case}.{name}"][None], entry["h0"], entry["w0"])
                    group.compare(f"{case}.{back}", truncated(resized))


def truncated(picture: Tensor) -> Tensor:
    """(1, 3, H, W) in [-1, 1] -> (H, W, 3) uint8, as the golden data was made.

    The published code truncates where `image.to_uint8` rounds, so that one cannot be compared: the resizing is.
    """
    return (picture[0].permute(1, 2, 0) * 127.5 + 127.5).clamp(0, 255).to(torch.uint8)


def _plan(height: int, width: int, entry: dict[str, Any]) -> SizePlan:
    return plan_size(
        height, width, upscale=entry["upscale"], min_size_px=entry["min_size"], short_side_px=entry["fix_resize"]
    )
