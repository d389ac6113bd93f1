"""`python -m training.sheet out.png`: pictures and damaged versions side by side, for a person to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from training.degrade import TRAINING, degrade
from training.pictures import draw


def build_sheet(first_seed: int, rows: int, columns: int, size: int, *, damaged: bool) -> Image.Image:
    """`rows` by `columns` pictures; with `damaged`, each has a damaged version at its right."""
    step = 2 if damaged else 1
    sheet = np.zeros((rows * size, columns * step * size, 3), np.uint8)
    for i in range(rows * columns):
        top, left = i // columns * size, i % columns * step * size
        pixels = draw(first_seed + i, size).pixels
        sheet[top : top + size, left : left + size] = pixels
        if damaged:
            rng = np.random.Generator(np.random.PCG64([first_seed + i, 1]))
            sheet[top : top + size, left + size : left + 2 * size] = degrade(pixels, rng, TRAINING).pixels
    return Image.fromarray(sheet)


def main() -> None:
    """Read the options, write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--clean", action="store_true", help="without the damaged versions")
    options = parser.parse_args()
    build_sheet(options.seed, options.rows, options.columns, options.size, damaged=not options.clean).save(options.file)


if __name__ == "__main__":
    main()
