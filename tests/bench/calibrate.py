"""Measures how close results come to their photos at many pulls, and writes `supir_core/calibration.toml`.

    python -m tests.bench.calibrate [--write]

Photos are shrunk, restored at twice their size and compared with themselves at their own size (PSNR). Every schedule is
measured at each tau_r, the looks of a photo in one pass. All of them, and the presets below, with the guidance of
`--guidance`: that of the shipped presets is for SDXL, and the demo model answers to it as SDXL does to several times
as much (at 4 it has no photo left to be close to). Then the shipped pairs of presets (`faithful` and
`faithful-lightning` ...) are run with the table that came out, and their closeness is compared: the proof. Last come
three variables that might stand for the pull in one curve for all schedules, with what each leaves unexplained.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from supir_core import calibration
from supir_core.calibration import Calibration, Curve
from supir_core.fidelity import fidelity
from supir_core.image import to_uint8
from supir_core.models import model_digest
from supir_core.presets import Preset, Pull, derive, load_preset
from supir_core.pull import Schedule, pull_steps, total_pull
from supir_core.restorer import Photo, Restorer

REPOSITORY = Path(__file__).parents[2]
TABLE = REPOSITORY / "supir_core" / calibration.FILE
PHOTOS = REPOSITORY / "examples" / "photos"
TAUS = (None, 8.0, 4.0, 2.0, 1.0, 0.5, 0.2)  # from no pull to the strongest
SCHEDULES = (("faithful", 50), ("faithful", 8), ("faithful-lightning", 8), ("faithful-lightning", 16))
"""What is measured: a preset whose sampler is taken, and a number of steps."""
PAIRS = [(name, f"{name}-lightning") for name in ("faithful", "balanced", "vivid")]

VARIABLES: dict[str, Callable[[Schedule, float | None], float]] = {
    "sum of k": lambda schedule, tau_r: sum(step.strength for step in pull_steps(schedule, tau_r)),
    "sum of k x share of the step": lambda s, tau_r: sum(step.strength * step.share for step in pull_steps(s, tau_r)),
    "-ln of the product of 1 - k x share": total_pull,
}


def photos_of(folder: Path, count: int, side: int) -> list[Photo]:
    """The middle of photos, square and shrunk, without a look yet."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = [path for path in files if "damaged" not in path.parts]
    found = []
    for file in files[:: max(1, len(files) // count)][:count]:
        image = Image.open(file).convert("RGB")
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))
        found.append(Photo(file.stem, np.asarray(square), small(load_preset("faithful"))))
    return found


def small(preset: Preset, guidance: tuple[float, float] = (1.0, 1.0)) -> Preset:
    """A look for small photos, in one window, with this guidance."""
    preset = replace(preset, guidance=replace(preset.guidance, start=guidance[0], end=guidance[1]))
    settings = ["size.upscale=2", "size.min_size_px=64", "size.short_side_px=off", "tile.size_lat=256"]
    return derive(preset, [*settings, "tile.stride_lat=224"])


def closeness(restorer: Restorer, photos: Sequence[Photo], looks: Sequence[Preset]) -> list[float]:
    """The mean PSNR of all photos, in decibels, for each look."""
    found = []
    for photo in photos:
        made = restorer.restore([replace(photo, preset=look) for look in looks])
        found.append([fidelity(photo.pixels, to_uint8(result.image)).db for result in made])
    return [float(value) for value in np.mean(found, axis=0)]


def measure(
    restorer: Restorer, photos: Sequence[Photo], name: str, num_steps: int, guidance: tuple[float, float]
) -> tuple[Curve, list[float]]:
    """The curve of a schedule, and what was measured before more pull was made to count as no less close."""
    base = derive(small(load_preset(name), guidance), [f"sampling.num_steps={num_steps}"])
    looks = [replace(base, pull=Pull(tau_r, None)) for tau_r in TAUS]
    db = closeness(restorer, photos, looks)
    pulls = [total_pull(base.sampling, tau_r) for tau_r in TAUS]
    rising = np.maximum.accumulate(db)
    return Curve(base.sampling.sampler, num_steps, tuple(pulls), tuple(float(value) for value in rising)), db


def compare(
    restorer: Restorer, photos: Sequence[Photo], table: Calibration, guidance: tuple[float, float]
) -> list[tuple[str, list[float], list[str]]]:
    """The closeness of the two forms of each shipped look under a table, and their tau_r."""
    found = []
    for pair in PAIRS:
        looks = []
        for name in pair:
            look = small(load_preset(name), guidance)
            assert look.pull.fidelity is not None
            looks.append(replace(look, pull=Pull(table.tau_r(look.pull.fidelity, look.sampling), None)))
        tau_r = ["off" if look.pull.tau_r is None else f"{look.pull.tau_r:g}" for look in looks]
        found.append((pair[0], closeness(restorer, photos, looks), tau_r))
    return found


def unexplained(curves: Sequence[Curve]) -> dict[str, float]:
    """For each variable: how far curves lie from the first one, drawn over it, in decibels (root mean square).

    Curves are moved to a common start: guidance and sampler make results closer or less close by themselves.
    """
    left = {}
    for name, variable in VARIABLES.items():
        drawn = []
        for (preset, steps), curve in zip(SCHEDULES, curves, strict=True):
            schedule = derive(load_preset(preset), [f"sampling.num_steps={steps}"]).sampling
            drawn.append(([variable(schedule, tau_r) for tau_r in TAUS], np.array(curve.db) - curve.db[0]))
        x, y = drawn[0]
        apart = [np.interp(xs, x, y) - ys for xs, ys in drawn[1:]]
        left[name] = float(np.sqrt(np.mean(np.square(apart))))
    return left


def as_toml(curves: Sequence[Curve], origin: dict[str, str]) -> str:
    """The table's file."""
    lines = ["# Written by python -m tests.bench.calibrate --write. How close results come to their photos at several"]
    lines += ["# pulls, of some schedules; read by supir_core/calibration.py.", "", "[origin]"]
    lines += [f'{key} = "{value}"' for key, value in origin.items()]
    shown = ", ".join('"off"' if tau_r is None else f"{tau_r}" for tau_r in TAUS)
    for curve in curves:
        lines += ["", "[[curve]]", f'sampler = "{curve.sampler}"', f"num_steps = {curve.num_steps}"]
        lines += [f"tau_r = [{shown}]"]
        lines += [f"total_pull = [{', '.join(f'{value:.4f}' for value in curve.total_pull)}]"]
        lines += [f"db = [{', '.join(f'{value:.3f}' for value in curve.db)}]"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="a folder of photos; default: the examples'")
    parser.add_argument("--count", type=int, default=4, help="of photos")
    parser.add_argument("--side", type=int, default=64, help="of a shrunk photo, in pixels")
    parser.add_argument(
        "--guidance", type=float, nargs=2, default=(1.0, 1.5), metavar=("START", "END"), help="of all; default: 1 1.5"
    )
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.relative_to(REPOSITORY)}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    restorer = Restorer.load(options.model, device="cpu", batch=8)
    photos = photos_of(options.photos, options.count, options.side)
    print(f"{len(photos)} photos of {options.side} px, model {options.model} {model_digest(options.model)}; PSNR in dB")
    print(f"{'tau_r':24}" + "".join(f"{'off' if tau_r is None else tau_r:>8}" for tau_r in TAUS))
    curves = []
    for name, num_steps in SCHEDULES:
        curve, db = measure(restorer, photos, name, num_steps, options.guidance)
        curves.append(curve)
        print(f"{curve.sampler} {num_steps:3} total pull".ljust(24) + "".join(f"{v:8.2f}" for v in curve.total_pull))
        print(f"{'':10}PSNR".ljust(24) + "".join(f"{value:8.2f}" for value in db), flush=True)
    table = Calibration({}, tuple(curves))
    print("\nthe two forms of each look, with this table")
    for name, db, tau_r in compare(restorer, photos, table, options.guidance):
        print(f"{name:12}{db[0]:8.2f} dB (tau_r {tau_r[0]}){db[1]:8.2f} dB (tau_r {tau_r[1]}), {db[1] - db[0]:+.2f}")
    print("\nleft unexplained by one curve for all schedules (dB, root mean square)")
    for name, left in unexplained(curves).items():
        print(f"{name:40}{left:6.2f}")
    origin = {
        "model": f"{Path(options.model).name} {model_digest(options.model)}",
        "date": time.strftime("%Y-%m-%d"),
        "photos": f"{len(photos)} of {options.photos.name}, {options.side} px, restored at twice their size",
        "closeness": "PSNR of the result at its photo's size, in dB, mean over the photos",
        "guidance": "{:g} to {:g}".format(*options.guidance),
    }
    if options.write:
        TABLE.write_text(as_toml(curves, origin), encoding="utf-8")
    written = f"; written: {TABLE.relative_to(REPOSITORY)}" if options.write else ""
    print(f"\n{time.monotonic() - start:.0f} s{written}")


if __name__ == "__main__":
    main()
