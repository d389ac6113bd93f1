"""`python -m training.evaluate DIR`: how well a training restores photos by now, for whoever steers it.

Photos are cut to their middle and damaged in fixed ways (`training.evaluation`). What is not trained yet is left out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from supir_core import image
from supir_core.autoencoder import Autoencoder
from supir_core.networks.vae import Encoder
from supir_core.presets import Preset, load_preset
from supir_core.restorer import Photo, Restorer
from training import checkpoints
from training.evaluation import EVALUATION
from training.export import export
from training.recipe import CPU, GPU, Recipe
from training.train import load_vae

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
UNDAMAGED = ("portraits/hopper.jpg", "outdoors/camera-grey.png", "space/deep-field.jpg", "still-life/coffee-alpha.png")
TAUS = (0.5, 1.0, 2.0, 4.0, None)
Scores = dict[str, list[float]]


def read_photos(paths: Sequence[Path], size: int) -> dict[str, np.ndarray]:
    """The middle of each photo: (size, size, 3) uint8 by name."""
    photos = {}
    for path in paths:
        opened = Image.open(path).convert("RGB")
        scale = size / min(opened.size)
        if scale > 1:
            opened = opened.resize((round(opened.width * scale), round(opened.height * scale)))
        left, top = (opened.width - size) // 2, (opened.height - size) // 2
        photos[path.stem] = np.asarray(opened.crop((left, top, left + size, top + size)))
    return photos


def psnr(made: np.ndarray, original: np.ndarray) -> float:
    """In decibels."""
    error = np.mean((made.astype(np.float64) - original) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def sharpness(made: np.ndarray, original: np.ndarray) -> float:
    """How steep the original's steepest tenth of pixels is in the result; 1 as steep as there."""
    steep = _steepness(original)
    edges = steep >= np.quantile(steep, 0.9)
    return float(_steepness(made)[edges].mean() / steep[edges].mean())


def _steepness(pixels: np.ndarray) -> np.ndarray:
    grey = pixels.astype(np.float64).mean(axis=2)
    y, x = np.gradient(grey)
    return np.hypot(x, y)


def evaluate(folder: Path, photos: Mapping[str, np.ndarray], recipe: Recipe, *, full: bool) -> Iterator[str]:
    """Lines of a report: the round trip, then bicubic, stage 1 and, if `full`, the whole path, by damage."""
    vae = load_vae(folder, recipe)
    if (folder / "denoise_encoder.pt").exists():
        vae.denoise_encoder = Encoder(recipe.dims.vae)
        vae.denoise_encoder.load_state_dict(checkpoints.averaged(folder, "denoise_encoder", "denoise_encoder"))
    vae.requires_grad_(False).eval()
    autoencoder = Autoencoder(vae, 1.0)
    trips = [psnr(_as_photo(autoencoder.decode(autoencoder.encode(_as_tensor(p)).mean)), p) for p in photos.values()]
    yield f"round trip {np.mean(trips):.2f} dB: " + ", ".join(f"{v:.1f}" for v in trips)
    if not hasattr(vae, "denoise_encoder"):
        return
    restorer = None
    if full and (folder / "control.pt").exists():
        with tempfile.TemporaryDirectory() as work:
            export(folder, Path(work) / "model", recipe)
            restorer = Restorer.load(str(Path(work) / "model"))
    totals: dict[str, Scores] = {}
    for damage, make in EVALUATION.items():
        scores: Scores = {}
        for name, original in photos.items():
            damaged = make(original)
            shown = _as_tensor(damaged.pixels, len(original))
            made = {"bicubic": _as_photo(shown)}
            made["stage 1"] = _as_photo(autoencoder.decode(autoencoder.encode_degraded(shown)))
            for label, preset in _looks(damaged.scale).items() if restorer else ():
                restored = restorer.restore([Photo(name, damaged.pixels, preset)])[0].image
                made[label] = image.to_uint8(restored)
            for label, pixels in made.items():
                scores.setdefault(label, []).append(psnr(pixels, original))
                scores.setdefault(f"{label} sharpness", []).append(sharpness(pixels, original))
        totals[damage] = scores
        yield _line(damage, scores)
    yield _line(
        "mean", {label: [v for s in totals.values() for v in s[label]] for label in next(iter(totals.values()))}
    )


def _looks(scale: int) -> dict[str, Preset]:
    demo = load_preset("demo")
    tile = replace(demo.tile, size_lat=128, stride_lat=112)  # one window: cells of 4 pixels, not 8
    demo = replace(demo, size=replace(demo.size, upscale=float(scale)), tile=tile)
    looks = {f"tau {tau or 'off'}": replace(demo, pull=replace(demo.pull, tau_r=tau)) for tau in TAUS}
    free = looks["tau off"]
    return looks | {"off, no negative": replace(free, text=replace(free.text, negative=""))}


def _line(name: str, scores: Scores) -> str:
    labels = [label for label in scores if not label.endswith(" sharpness")]
    return f"{name:14s}" + "  ".join(
        f"{label} {np.mean(scores[label]):.2f} ({np.mean(scores[f'{label} sharpness']):.2f})" for label in labels
    )


def _as_tensor(pixels: np.ndarray, side: int | None = None) -> torch.Tensor:
    return image.to_tensor(pixels, side or pixels.shape[0], side or pixels.shape[1])


def _as_photo(x: torch.Tensor) -> np.ndarray:
    return image.to_uint8(x.detach())


def main() -> None:
    """Read the options, print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--size", type=int, default=256, help="of the cut photos")
    parser.add_argument("--photos", type=Path, nargs="*", help="instead of the examples'")
    parser.add_argument("--recipe", choices=["cpu", "gpu"], default="cpu", help="that it is trained with")
    parser.add_argument("--fast", action="store_true", help="round trip and stage 1 alone")
    options = parser.parse_args()
    photos = read_photos(options.photos or [PHOTOS / name for name in UNDAMAGED], options.size)
    recipe = GPU if options.recipe == "gpu" else CPU
    with torch.inference_mode():
        for line in evaluate(options.folder, photos, recipe, full=not options.fast):
            print(line, flush=True)  # noqa: T201  a program's output


if __name__ == "__main__":
    main()
