"""Which check belongs to which file, and the walk over a directory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import torch

from supir_core.errors import InputError
from tests.parity.end_to_end import check_end_to_end
from tests.parity.golden import GoldenFile
from tests.parity.networks import check_networks
from tests.parity.pictures import check_colorfix, check_image_io
from tests.parity.report import Line, Report
from tests.parity.samplers import check_samplers
from tests.parity.schedules import check_schedules
from tests.parity.text import check_bigg, check_clip_l, check_text
from tests.parity.vae import check_tiled_vae, check_vae

CHECKS: dict[str, Callable[[GoldenFile, Report], None]] = {
    "schedules": check_schedules,
    "image_io": check_image_io,
    "colorfix": check_colorfix,
    "text": check_text,
    "vae": check_vae,
    "tiled_vae": check_tiled_vae,
    "networks": check_networks,
    "samplers": check_samplers,
    "end_to_end": check_end_to_end,
    "text_full_clip_l": check_clip_l,
    "text_full_bigg": check_bigg,
}
FULL_SIZE = ("text_full_clip_l", "text_full_bigg")  # up to 2.8 GB of weights: only with `full`


def check_directory(
    directory: Path,
    *,
    full: bool = False,
    only: Collection[str] | None = None,
    slack: float = 1.0,
    on_line: Callable[[Line], None] = lambda line: None,
) -> Report:
    """Compare everything in a golden directory with this implementation.

    Args:
        directory: holds `X.safetensors` and `X.json` for some of the names in `CHECKS`.
        full: also the files in `FULL_SIZE`.
        only: files to check, by name; all that are there if not given.
        slack: every limit but those of exact values is multiplied by it.
        on_line: called with each line as it comes.

    Raises:
        InputError: the directory holds no golden file at all.
    """
    present = sorted(path.stem for path in directory.glob("*.safetensors"))
    if not set(present) & set(CHECKS):
        raise InputError(
            f"no golden data in {directory}", hint=f"it should hold X.safetensors for X among {', '.join(CHECKS)}"
        )
    report = Report(slack, on_line)
    report.absent = [name for name in CHECKS if name not in present]
    for name in [n for n in CHECKS if n in present] + [n for n in present if n not in CHECKS]:
        if only is None or name in only:
            _check_file(directory, name, full, report)
    return report


def _check_file(directory: Path, name: str, full: bool, report: Report) -> None:
    try:
        file = GoldenFile(directory, name)
        if name in FULL_SIZE and not full:
            report.skip(file, "", list(file.tensors), "full size, only with --full")
        elif name in CHECKS:
            with torch.inference_mode():
                CHECKS[name](file, report)
    except Exception as error:  # a damaged file, or settings that no check can use: the other files still count
        report.fail(name, "", "", f"{type(error).__name__}: {error}")
        return
    if file.lost:
        report.fail(name, "", "missing", f"{name}.json lists {_some(file.lost)}; {name}.safetensors lacks them")
    if file.unseen:
        report.unchecked[name] = file.unseen
        report.fail(name, "", "unchecked", f"no check looked at {_some(file.unseen)}")


def _some(names: list[str]) -> str:
    return f"{len(names)} tensors: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
