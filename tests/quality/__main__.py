"""`make quality`: how well a model restores photos that it was not trained on, as tables and one contact sheet.

Every photo in tests/quality/photos is damaged in every way of training.evaluation and restored in every look. With
`--write` the tables and the sheet go into README; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from tests.quality import looks
from tests.quality.scores import Score, measure

ROOT = Path(__file__).parents[2]
README, SHEET = ROOT / "README.md", ROOT / "examples" / "before-after.png"
BEGIN, END = "<!-- make quality: from here -->", "<!-- make quality: to here -->"
SHEET_PX = 150  # side of a picture in the sheet
SHOWN = ("damaged", "stage 1", looks.DEMO, "tau_r off", "original")


class Pictures(NamedTuple):
    """What the sheet shows of a photo."""

    damage: str
    pixels: dict[str, np.ndarray]


def mean(scores: Sequence[Score], figure: str, **which: str) -> float:
    """Over all scores with these fields."""
    found = [getattr(s, figure) for s in scores if all(getattr(s, key) == value for key, value in which.items())]
    return float(np.mean(found))


def tables(scores: Sequence[Score]) -> str:
    """Markdown: means by look, PSNR by damage, PSNR by photo."""
    names = list(dict.fromkeys(s.look for s in scores))
    damages = list(dict.fromkeys(s.damage for s in scores))
    photos = list(dict.fromkeys(s.photo for s in scores))
    lines = ["| | PSNR, dB | SSIM | edge sharpness |", "|---|---|---|---|"]
    for look in names:
        figures = [mean(scores, figure, look=look) for figure in ("psnr", "ssim", "sharpness")]
        lines.append(f"| {look} | {figures[0]:.2f} | {figures[1]:.3f} | {figures[2]:.2f} |")
    few = [look for look in names if look in ("bicubic", "stage 1", looks.DEMO, "tau_r 4.0", "tau_r off")]
    for what, field, values in (("damage", "damage", damages), ("photo", "photo", photos)):
        lines += ["", f"| PSNR, dB, by {what} | " + " | ".join(values) + " |", "|---" * (len(values) + 1) + "|"]
        for look in few:
            figures = [mean(scores, "psnr", look=look, **{field: value}) for value in values]
            lines.append(f"| {look} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    return "\n".join(lines)


def claims(scores: Sequence[Score]) -> dict[str, tuple[bool, str]]:
    """What the demo model is meant to show, whether it does, and the figures."""

    def get(figure: str, look: str) -> float:
        return mean(scores, figure, look=look)

    noisy = [s for s in scores if s.damage in looks.NOISY]
    gain = mean(noisy, "psnr", look="stage 1") - mean(noisy, "psnr", look="bicubic")
    behind = get("psnr", "stage 1") - get("psnr", looks.DEMO)
    edge = abs(1 - get("sharpness", "stage 1"))
    free = {look: abs(1 - get("sharpness", look)) for look in ("tau_r 4.0", "tau_r off")}
    taus = [look for look in looks.looks() if look.startswith("tau_r")]
    falling, rising = [get("psnr", look) for look in taus], [get("sharpness", look) for look in taus]
    empty, negative = get("sharpness", looks.EMPTY), get("sharpness", looks.NEGATIVE)
    return {
        "stage 1 beats bicubic by 1.5 dB on noisy and JPEG photos": (gain >= 1.5, f"{gain:.2f} dB"),
        "tau_r 0.5 stays within 0.7 dB of stage 1": (behind <= 0.7, f"{behind:.2f} dB behind"),
        "edges at tau_r 4 or off are closer to the original's than stage 1's": (
            min(free.values()) < edge,
            f"{edge:.3f} away; " + ", ".join(f"{look} {value:.3f}" for look, value in free.items()),
        ),
        "PSNR falls with tau_r": (
            all(a > b for a, b in pairwise(falling)),
            " > ".join(f"{value:.2f}" for value in falling),
        ),
        "sharpness rises with tau_r": (
            all(a < b for a, b in pairwise(rising)),
            " < ".join(f"{value:.3f}" for value in rising),
        ),
        "the negative prompt at guidance 4 sharpens": (negative > empty, f"{negative:.3f} against {empty:.3f}"),
    }


def sheet(pictures: dict[str, Pictures]) -> Image.Image:
    """A row per photo: damaged, stage 1, two looks, original; in 255 colours, so that it stays small."""
    side, head = SHEET_PX, 18
    drawn = Image.new("RGB", (len(SHOWN) * side, head + len(pictures) * side), "white")
    pen = ImageDraw.Draw(drawn)
    for column, label in enumerate(SHOWN):
        pen.text((column * side + 4, 3), label, fill="black")
    for row, (_, (damage, pixels)) in enumerate(pictures.items()):
        for column, label in enumerate(SHOWN):
            margin = (pixels[label].shape[0] - side) // 2
            part = pixels[label][margin : margin + side, margin : margin + side]
            drawn.paste(Image.fromarray(part), (column * side, head + row * side))
        pen.text((4, head + row * side + 2), damage, fill="white", stroke_width=2, stroke_fill="black")
    return drawn.quantize(255, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)


def main() -> int:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a model directory, or demo")
    parser.add_argument("--photos", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--jobs", type=int, default=2, help="processes, with one thread each")
    parser.add_argument("--sheet", type=Path, help="write the contact sheet there")
    parser.add_argument("--write", action="store_true", help=f"tables into README, the sheet to {SHEET.name}")
    options = parser.parse_args()
    names = options.photos or list(looks.read_photos())
    scores: list[Score] = []
    shown: dict[str, Pictures] = {}
    started = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for i, (found, pictures) in enumerate(pool.imap(partial(measure, options.model), names)):
            scores += found
            damage = list(pictures)[i % len(pictures)]  # the next kind with each photo
            shown[names[i]] = Pictures(damage, pictures[damage])
            print(f"{i + 1} of {len(names)} photos, {time.monotonic() - started:.0f} s", flush=True)
    text = tables(scores)
    print(f"\n{text}\n")
    judged = claims(scores)
    for claim, (holds, figures) in judged.items():
        print(f"{'yes' if holds else 'NO ':3s} {claim}: {figures}")
    if options.sheet or options.write:
        sheet(shown).save(options.sheet or SHEET, optimize=True)
    if options.write:
        lines = [f"- {'yes' if holds else '**no**'}: {claim} ({figures})" for claim, (holds, figures) in judged.items()]
        write(f"{text}\n\nWhat it was meant to show, and whether it does:\n\n" + "\n".join(lines))
    facts = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "model": options.model}
    means = {look: mean(scores, "psnr", look=look) for look in dict.fromkeys(s.look for s in scores)}
    print(json.dumps(facts | {"psnr": means, "claims": {claim: holds for claim, (holds, _) in judged.items()}}))
    return 0


def write(text: str) -> None:
    """Put the tables between README's two marks."""
    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
