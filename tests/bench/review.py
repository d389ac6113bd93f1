"""What the limits of `[review]` mark: results as they are, and results that were spoilt on purpose.

    python -m tests.bench.review [--photos NAME ...] [--fix input]

Photos of tests/quality/photos in all kinds of damage, restored by the demo preset with a colour fix, are measured
against the photo that was restored, as a run does. Then the same results are spoilt, one change at a time. Prints the
median and the worst tenth of each figure, how many results each set of limits marks, and, last, one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pipeline.photos.evidence import Evidence, measured, reasons
from supir_core import presets
from supir_core.models import model_digest
from supir_core.presets import load_preset
from supir_core.restorer import Restorer
from tests.bench.color import restored
from tests.quality import looks

LIMITS = ("faithful", "vivid")
"""Presets with two sets of limits: those that stay close to photos, and those that are free."""


def _moved(image: np.ndarray) -> np.ndarray:
    return np.roll(image, 1, axis=2)


def _patched(image: np.ndarray) -> np.ndarray:
    out = image.copy()
    out[:, 80:112, 80:112] = image[:, 20:52, 140:172][..., ::-1]
    return out


def _mush(image: np.ndarray) -> np.ndarray:
    size = image.shape[1:]
    small = F.interpolate(torch.from_numpy(image)[None], (size[0] // 6, size[1] // 6), mode="area")
    return F.interpolate(small, size, mode="bicubic", align_corners=False)[0].numpy()


def _texture(image: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(image.shape[1:])
    return image + np.float32(0.12) * ((rows + columns) % 2 * 2 - 1)


def _tint(image: np.ndarray) -> np.ndarray:
    return image + np.array([0.06, 0, -0.06], np.float32)[:, None, None]


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as restored": lambda image: image,
    "tint of 8 levels": _tint,
    "moved by 1 px": _moved,
    "32 px replaced": _patched,
    "mush": _mush,
    "texture of 15 levels": _texture,
}


def line(name: str, found: list[Evidence], marked: dict[str, Counter[str]]) -> str:
    """One row of the table."""
    figures = []
    for field in Evidence._fields:
        values = [abs(v) for e in found if (v := getattr(e, field)) is not None]
        figures.append(f"{np.median(values):.2f} / {np.quantile(values, 0.9):.2f}" if values else "-")
    shares = [f"{marked[limits]['any']}" for limits in LIMITS]
    return f"| {name} | " + " | ".join(figures + shares) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a model directory, or demo")
    parser.add_argument("--photos", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--fix", default=load_preset("demo").color.fix, help="of colours (default: the demo preset's)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    restorer, preset = Restorer.load(options.model, device="cpu"), load_preset("demo")
    limits = {name: load_preset(name).review for name in presets.names() if name in LIMITS}
    evidence: dict[str, list[Evidence]] = {name: [] for name in CHANGES}
    for name, original in looks.read_photos().items():
        for damaged in looks.damaged_photos(original).values() if name in (options.photos or [name]) else ():
            made = restored(restorer, name, damaged, preset).fixed(options.fix)
            for change, spoil in CHANGES.items():
                spoilt = np.ascontiguousarray(spoil(made).clip(-1, 1), np.float32)
                evidence[change].append(measured(spoilt, damaged.pixels.astype(np.uint16) * 257))
    print("median / worst tenth; the last columns: how many of", len(evidence["as restored"]), "results are marked")
    print("| | " + " | ".join((*Evidence._fields, *LIMITS)) + " |\n|" + "---|" * (len(Evidence._fields) + 3))
    facts: dict[str, Any] = {}
    for change, found in evidence.items():
        marked: dict[str, Counter[str]] = {}
        for name, limit in limits.items():
            each = [reasons(one, limit) for one in found]
            marked[name] = Counter(reason for reasons_of in each for reason in reasons_of)
            marked[name]["any"] = sum(bool(reasons_of) for reasons_of in each)
        print(line(change, found, marked), flush=True)
        facts[change] = {name: dict(counts) for name, counts in marked.items()}
    print("\nby reason")
    for change, by_limits in facts.items():
        print(f"  {change}: " + "; ".join(f"{name} {counts}" for name, counts in by_limits.items()))
    about = {"model": options.model, "model_digest": model_digest(options.model), "date": time.strftime("%Y-%m-%d")}
    print(json.dumps({**about, "fix": options.fix, "marked": facts}))


if __name__ == "__main__":
    main()
