"""Memory of a restore worker beside its networks: large photos through a real run.

    python -m tests.bench.worker_memory [--megapixels 100] [--photos 4] [--photos-per-batch 1] [--format png]

Everything is real but the networks: Ray, the photos' files, decoding, the frame around the networks (the picture as a
tensor, colour transfer, the size back), encoding, the store. Base is the worker's resident set when its networks would
be loaded, peak its largest one (`VmHWM`). Prints a table and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.settings import RunSettings
from supir_core import image
from supir_core.color import COLOR_FIXES
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restored, plan_photo
from supir_core.speed import resident_bytes
from tests.faults.processes import named
from tests.pipeline.runs import restore, settings_for, view

UPSCALE = 2
MIB = 2**20


@dataclass(frozen=True)
class Frame:
    """Loads restorers that do all but the networks; leaves the worker's memory in a file.

    Args:
        base: that file.
    """

    base: Path

    def __call__(self, settings: RunSettings) -> Frame:
        self.base.write_text(str(resident_bytes("VmRSS")), encoding="ascii")
        return self

    @torch.inference_mode()
    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        return [self._one(photo) for photo in photos]

    def _one(self, photo: Photo) -> Restored:
        size = plan_photo(photo)
        x_lq = image.to_tensor(photo.pixels, size.network_height, size.network_width)
        fixed = COLOR_FIXES[photo.preset.color.fix](x_lq, x_lq)
        return Restored(image.resize_back(fixed, size.height, size.width), [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=100.0, help="of a result")
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--photos-per-batch", type=int, default=1)
    parser.add_argument("--format", default="png", choices=["png", "jpeg", "webp", "tiff"])
    parser.add_argument("--fix", default="wavelet", help="of colours")
    options = parser.parse_args()
    side = math.isqrt(round(options.megapixels * 1e6)) // UPSCALE
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        _make_photos(folder / "in", options.photos, side)
        settings = settings_for(
            folder / "in", folder / "out", format=options.format, photos_per_batch=options.photos_per_batch,
            preset=load_preset("demo", [f"size.upscale={UPSCALE}", f"color.fix={options.fix}"]),
            max_megapixels=2 * options.megapixels,
        )  # fmt: skip
        peaks: dict[int, int] = {}
        threading.Thread(target=_watch, args=(peaks,), daemon=True).start()
        start = time.monotonic()
        restore(settings, Frame(folder / "base"))
        seconds = time.monotonic() - start
        rows = view(folder / "out").values()
        base = int((folder / "base").read_text(encoding="ascii"))
    pixels = max(row["width"] * row["height"] for row in rows)
    facts = {
        "result_megapixels": round(pixels / 1e6, 1), "photos": len(rows), "format": options.format, "fix": options.fix,
        "in_hand": 2 * options.photos_per_batch, "base_mib": base // MIB, "peak_mib": max(peaks.values()) // MIB,
        "bytes_per_pixel": round((max(peaks.values()) - base) / pixels, 1), "seconds": round(seconds, 1),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    for name, value in facts.items():
        print(f"{name:20s} {value}")
    print(json.dumps(facts))


def _make_photos(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    ramp = np.add.outer(np.arange(side), np.arange(side)) % 256
    for number in range(count):
        pixels = np.stack([ramp, np.roll(ramp, number + 1, 0), ramp.T], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)


def _watch(peaks: dict[int, int]) -> None:
    """Keep the largest resident set of every restore worker up to date."""
    while True:
        for pid in named("MapBatches(RestoreStage)"):
            with suppress(OSError, ValueError):  # it has just ended
                peaks[pid] = resident_bytes("VmHWM", pid)
        time.sleep(0.2)


if __name__ == "__main__":
    main()
