"""Memory that large photos take on their way in and on their way out, each in a process of its own.

    python -m tests.bench.large_photos [--megapixels 400] [--only NAME ...]

In: a file is read and decoded. Out: a picture of floats, as the networks give it, becomes a file with metadata, in
memory; its base has the floats already. Base is the resident set before, peak the largest one (`VmHWM`). Pictures are
slopes with noise, which pack badly, as scans do. Prints a table and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.photos.decode import decode
from pipeline.photos.result import finish
from pipeline.photos.vips import libvips
from pipeline.photos.xmp import Provenance
from supir_core.speed import resident_bytes

PHOTO_PX = 256  # side of the photo that is said to have become a large result
TILE_PX = 2000  # of what large pictures are made of
MIB = 2**20


def slopes(side: int) -> Any:
    """A pyvips image of three 16-bit channels: tiles of slopes with noise."""
    px = min(side, TILE_PX)
    x, y = libvips().Image.xyz(px, px).bandsplit()
    noise = libvips().Image.gaussnoise(px, px, sigma=1000.0, mean=20000.0, seed=1)
    planes = [noise + plane * (20000 / px) for plane in (x, y, (x + y) / 2)]
    tile = planes[0].bandjoin(planes[1:]).cast("ushort").copy(interpretation="rgb16").copy_memory()
    return tile.replicate(-(-side // px), -(-side // px)).extract_area(0, 0, side, side)


def write_tiff(side: int, file: Path) -> None:
    slopes(side).tiffsave(str(file), compression="lzw", predictor="horizontal")


def write_jpeg(side: int, file: Path) -> None:
    (slopes(side) / 257).cast("uchar").copy(interpretation="srgb").jpegsave(str(file), Q=90)


def take_in(side: int, file: Path) -> dict[str, int]:
    """Decode a file; what came out."""
    data = file.read_bytes()
    decoded = decode(data)
    assert (decoded.height, decoded.width) == (side, side)
    return {"bits": decoded.bits, "file_mib": len(data) // MIB}


def put_out(image: np.ndarray, file: Path, format_name: str) -> dict[str, int]:
    """Finish a result; what came out."""
    data = file.read_bytes()
    story = Provenance("0" * 64, "bench", "none", 0, "")
    done = finish(image, decode(data), data, format_name, None, story)
    return {"bits": done.bits, "file_mib": len(done.data) // MIB}


def floats(side: int) -> np.ndarray:
    """(3, side, side) float32 in [-1, 1]."""
    image, px = np.empty((3, side, side), np.float32), min(side, TILE_PX)
    noise = np.random.default_rng(1).standard_normal((3, px, px), np.float32) * np.float32(0.03)
    tile = noise + np.linspace(-0.8, 0.8, px, dtype=np.float32)
    for top in range(0, side, px):
        for left in range(0, side, px):
            place = image[:, top : top + px, left : left + px]
            other_rows = np.roll(tile, left // 50, axis=1)  # so that nothing comes again that a packer remembers
            place[:] = other_rows[:, : place.shape[1], : place.shape[2]]
    return image


CASES: dict[str, tuple[Callable[[int, Path], None], str | None]] = {
    "16-bit TIFF in": (write_tiff, None),
    "JPEG in": (write_jpeg, None),
    "16-bit TIFF out": (write_tiff, "tiff"),
    "16-bit PNG out": (write_tiff, "png"),
}
"""How each photo's file is made, and the format of its result; None: it is only read."""


def measure(case: str, side: int, file: Path) -> dict[str, Any]:
    """In a process that has done nothing else; the file of a result is that of a small photo."""
    format_name = CASES[case][1]
    image = floats(side) if format_name else None
    base, start = resident_bytes("VmRSS"), time.monotonic()
    facts = take_in(side, file) if image is None or format_name is None else put_out(image, file, format_name)
    peak = resident_bytes("VmHWM")
    return {
        "case": case,
        "megapixels": round(side * side / 1e6, 1),
        **facts,
        "base_mib": base // MIB,
        "peak_mib": peak // MIB,
        "bytes_per_pixel": round((peak - base) / side**2, 1),
        "seconds": round(time.monotonic() - start, 1),
    }


def in_child(case: str, side: int) -> dict[str, Any]:
    """Make the photo here, and measure in another process."""
    write, format_name = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photo"
        write(PHOTO_PX if format_name else side, file)
        command = [sys.executable, "-m", "tests.bench.large_photos", "--child", case, str(side), str(file)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=400.0)
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        case, side, file = options.child
        print(json.dumps(measure(case, int(side), Path(file))))
        return
    found = []
    for case in options.only:
        found.append(in_child(case, math.isqrt(round(options.megapixels * 1e6))))
        if len(found) == 1:
            print("| " + " | ".join(found[0]) + " |\n" + "|---" * len(found[0]) + "|")
        print("| " + " | ".join(str(value) for value in found[-1].values()) + " |", flush=True)
    print(json.dumps({"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "found": found}))


if __name__ == "__main__":
    main()
