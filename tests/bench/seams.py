"""Steps at the borders of windows, against all other steps of the same pictures; demo model, CPU.

    python -m tests.bench.seams [--photos 6] [--threads 2]

Prints a table and, as the last line, one JSON object. `largest` and `mean` (the root of the mean square) are steps of
pictures in [-1, 1], at borders of windows and elsewhere.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supir_core.networks.dims import DEMO
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restorer
from supir_core.tiling import Tiling, planned_tiling, published_tiling

CELL_PX = DEMO.vae.factor
HEIGHT, WIDTH = 32, 48  # cells of the photo
SIDE = 16  # cells of a window
EDGE = 4  # cells: nearer to the picture's edge the networks' padding makes steps of its own
LOOK = ("size.upscale=1", "size.min_size_px=64", "sampling.num_steps=2", "color.fix=none")


class Look(NamedTuple):
    """One way to cut and to blend."""

    settings: tuple[str, ...]
    tiling: Tiling  # that these settings give


def looks() -> dict[str, Look]:
    """Planned windows, published ones, and windows that only touch, so that nothing is blended."""

    def planned(stride: int) -> Look:
        settings = ("tile.mode=planned", f"tile.size_lat={SIDE}", f"tile.stride_lat={stride}")
        return Look(settings, planned_tiling(HEIGHT, WIDTH, SIDE, SIDE - stride, lambda height, width: height * width))

    half = SIDE // 2
    settings = ("tile.mode=published", f"tile.size_lat={SIDE}", f"tile.stride_lat={half}")
    published = Look(settings, published_tiling(HEIGHT, WIDTH, SIDE, half))
    return {"planned": planned(12), "published": published, "pasted": planned(SIDE)}


class Seams(NamedTuple):
    """Steps of a picture."""

    borders: np.ndarray  # at the borders of windows
    elsewhere: np.ndarray

    @property
    def largest(self) -> float:
        """The largest step at a border over the largest elsewhere; above 1 a seam stands out."""
        return float(self.borders.max() / self.elsewhere.max())

    @property
    def mean(self) -> float:
        """Root mean squares in the place of the largest: about 1 without seams, and less a matter of chance."""
        return _root_mean_square(self.borders) / _root_mean_square(self.elsewhere)


def seams(picture: Tensor, tiling: Tiling) -> Seams:
    """The coherent steps of a picture across all lines between cells, by whether a window begins or ends there.

    A step is the mean of the cells on one side of a line less the mean of those on the other, along the whole length of
    the picture, in the channel where it is largest. What noise adds to such means is small, a seam's share is in full.
    Only lines between cells are compared with each other, as the decoder makes steps of its own there. Lines beside a
    border, which a seam blurred by the decoder reaches, count as neither, and so do those near the picture's edge.

    Args:
        picture: (C, height, width), sides multiples of `CELL_PX`. In the difference between a picture restored in
            windows and the same one restored whole everything but the windows' effect is gone; means over several
            photos have less noise, and the same borders.
        tiling: of the picture's latent.
    """
    windows = tiling.windows
    _, height, width = picture.shape
    across = _steps(picture, {line for w in windows for line in (w.left, w.left + w.width)} - {0, width // CELL_PX})
    down = {line for w in windows for line in (w.top, w.top + w.height)} - {0, height // CELL_PX}
    return Seams(*map(np.concatenate, zip(across, _steps(picture.transpose(1, 2), down), strict=True)))


def _steps(picture: Tensor, borders: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Steps between columns of cells: those at borders, and others."""
    columns = picture.double().unflatten(2, (-1, CELL_PX)).mean(dim=(1, 3))  # (C, cells)
    steps = columns.diff(dim=1).abs().amax(dim=0).numpy()  # the first is between cells 0 and 1
    beside = {border + offset for border in borders for offset in (-1, 0, 1)}
    others = [line for line in range(EDGE, columns.shape[1] - EDGE + 1) if line not in beside]
    return steps[[line - 1 for line in borders]], steps[[line - 1 for line in others]]


def _root_mean_square(values: np.ndarray) -> float:
    return math.sqrt(float(np.square(values).mean()))


def smooth_photo(seed: int) -> np.ndarray:
    """A gradient in each colour with slight noise, (H, W, 3) uint8."""
    y, x = np.mgrid[0 : 1 : HEIGHT * CELL_PX * 1j, 0 : 1 : WIDTH * CELL_PX * 1j]
    gradient = np.stack([60 + 120 * x, 80 + 90 * y, 180 - 60 * x - 40 * y], axis=-1)
    return (gradient + np.random.default_rng(seed).normal(0, 2, gradient.shape)).round().astype(np.uint8)


def restore(restorer: Restorer, settings: Sequence[str], photos: int) -> Tensor:
    """Restored smooth photos, (photos, 3, H, W)."""
    preset = load_preset("demo", [*LOOK, *settings])
    return torch.cat(
        [restorer.restore([Photo(f"smooth {i}", smooth_photo(i), preset)])[0].image for i in range(photos)]
    )


def restore_whole(restorer: Restorer, photos: int) -> Tensor:
    """The same photos, each in one window."""
    side = max(HEIGHT, WIDTH)
    return restore(restorer, [f"tile.size_lat={side}", f"tile.stride_lat={side}"], photos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    restorer = Restorer.load("demo", device="cpu", dtype="float32")
    whole = restore_whole(restorer, arguments.photos)
    facts = []
    print(f"{arguments.photos} photos of {WIDTH * CELL_PX} x {HEIGHT * CELL_PX} pixels")
    print(f"{'windows':10s} {'what':20s} {'largest at borders':>18s} {'elsewhere':>9s} {'ratio':>6s}", end="")
    print(f" {'mean at borders':>15s} {'elsewhere':>9s} {'ratio':>6s}")
    for name, look in looks().items():
        pictures = restore(restorer, look.settings, arguments.photos)
        for what, picture in (("pictures", pictures), ("less those in one", pictures - whole)):
            found = seams(picture.mean(dim=0), look.tiling)
            rows = [float(found.borders.max()), float(found.elsewhere.max()), found.largest]
            rows += [_root_mean_square(found.borders), _root_mean_square(found.elsewhere), found.mean]
            print(f"{name:10s} {what:20s} {rows[0]:18.4f} {rows[1]:9.4f} {rows[2]:6.2f}", end="")
            print(f" {rows[3]:15.4f} {rows[4]:9.4f} {rows[5]:6.2f}", flush=True)
            keys = ("largest_border", "largest_elsewhere", "largest", "mean_border", "mean_elsewhere", "mean")
            facts.append({"windows": name, "what": what} | {k: round(v, 5) for k, v in zip(keys, rows, strict=True)})
    print(json.dumps({"photos": arguments.photos, "rows": facts, "date": time.strftime("%Y-%m-%d")}))


if __name__ == "__main__":
    main()
