"""Which colour fix keeps the colours of photos best.

    python -m tests.bench.color [--photos NAME ...] [--model DIRECTORY]

Every photo in tests/quality/photos is damaged in all ways of training.evaluation and restored by the demo preset
without a colour fix; then each fix is applied to the same picture. Compared are pictures blurred by 2 pixels, so that
neither noise nor detail is a colour: mean CIEDE2000, and that of the worst block of 16 pixels, against the original and
against the damaged photo (means over the kinds of damage). Prints tables, a verdict, and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.photos.evidence import measured
from supir_core import image
from supir_core.color import COLOR_FIXES, FROM_PHOTO
from supir_core.models import model_digest
from supir_core.noise import photo_noise
from supir_core.presets import Preset, derive, load_preset
from supir_core.restorer import Job, Restorer
from tests.quality import looks
from training.evaluation import Damaged


class Figures(NamedTuple):
    """Colour differences of one result, CIEDE2000."""

    original_mean: float
    original_block: float
    photo_mean: float
    photo_block: float


TITLES = ("mean against the original", "worst block against it", "mean against the photo", "worst block against it")


class Raw(NamedTuple):
    """A result before its colours are fixed, and where they may come from; (1, 3, H, W) in [-1, 1]."""

    content: Tensor
    stage1: Tensor
    photo: Tensor

    def fixed(self, name: str) -> np.ndarray:
        """(3, H, W) float32, as `Restorer` makes it with this fix."""
        made = COLOR_FIXES[name](self.content, self.photo if name in FROM_PHOTO else self.stage1)
        return made.clamp(-1, 1)[0].numpy()


@torch.inference_mode()
def restored(restorer: Restorer, key: str, damaged: Damaged, preset: Preset) -> Raw:
    """A photo at the size that it had before it was damaged; sides multiples of 64."""
    height, width = (side * damaged.scale for side in damaged.pixels.shape[:2])
    x_lq = image.to_tensor(damaged.pixels, height, width)
    job = Job(x_lq, ("",), derive(preset, ["color.fix=none"]), photo_noise(key, preset.sampling.seed))
    return Raw(restorer.run([job])[0].image, restorer.preview(x_lq, preset.stage1.clean).x_stage1, x_lq)


def judged(raw: Raw, original: np.ndarray, photo: np.ndarray) -> dict[str, Figures]:
    """The figures of every fix.

    Args:
        raw: the result.
        original: (H, W, 3) uint8, before it was damaged.
        photo: (h, w, 3) uint8, which was restored.
    """
    found = {}
    for name in COLOR_FIXES:
        made = raw.fixed(name)
        truth, given = (measured(made, pixels.astype(np.uint16) * 257) for pixels in (original, photo))
        found[name] = Figures(truth.de_mean, truth.de_block, given.de_mean, given.de_block)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a model directory, or demo")
    parser.add_argument("--photos", nargs="*", metavar="NAME", help="only these")
    options = parser.parse_args()
    torch.set_num_threads(1)
    restorer, preset = Restorer.load(options.model, device="cpu"), load_preset("demo")
    photos = {name: p for name, p in looks.read_photos().items() if name in (options.photos or [name])}
    by_photo: dict[str, dict[str, Figures]] = {}
    for name, original in photos.items():
        start, found = time.monotonic(), defaultdict[str, list[Figures]](list)
        for damaged in looks.damaged_photos(original).values():
            raw = restored(restorer, name, damaged, preset)
            for fix, figures in judged(raw, original, damaged.pixels).items():
                found[fix].append(figures)
        by_photo[name] = {fix: Figures(*np.mean(all_of, axis=0).tolist()) for fix, all_of in found.items()}
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    for title, field in zip(TITLES, Figures._fields, strict=True):
        print(f"\n| CIEDE2000, {title} | " + " | ".join(COLOR_FIXES) + " |\n" + "|---" * (len(COLOR_FIXES) + 1) + "|")
        for name, fixes in by_photo.items():
            print(f"| {name} | " + " | ".join(f"{getattr(fixes[fix], field):.2f}" for fix in COLOR_FIXES) + " |")
    others = [fix for fix in COLOR_FIXES if fix != "input"]
    wins = {
        field: [
            name
            for name, f in by_photo.items()
            if getattr(f["input"], field) <= min(getattr(f[o], field) for o in others)
        ]
        for field in Figures._fields
    }
    print("\ninput has the smallest difference of all fixes")
    for title, field in zip(TITLES, Figures._fields, strict=True):
        print(f"  {title}: of {len(wins[field])} of {len(by_photo)} photos")
    facts = {"model": options.model, "model_digest": model_digest(options.model), "date": time.strftime("%Y-%m-%d")}
    figures = {name: {fix: f._asdict() for fix, f in fixes.items()} for name, fixes in by_photo.items()}
    print(json.dumps(facts | {"wins": wins, "figures": figures}))


if __name__ == "__main__":
    main()
