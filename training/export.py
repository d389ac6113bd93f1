"""`python -m training.export DIR OUT` writes a finished training as a packed model, for `--model OUT`.

Needs the whole environment, unlike training itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from supir_core.models import CONFIG_FILE
from supir_core.networks.dims import ModelDims
from supir_core.packing import pack, plan_packing
from supir_core.parts import PREFIXES, SDXL_PARTS, SUPIR_PARTS, part_of, wanted
from training import checkpoints
from training.recipe import CPU, GPU, STAGES, Recipe

PARTS = (  # stage, its part, the published prefix
    ("decoder", "encoder", PREFIXES["vae"] + "encoder."),
    ("decoder", "decoder", PREFIXES["vae"] + "decoder."),
    ("decoder", "quant_conv", PREFIXES["vae"] + "quant_conv."),
    ("decoder", "post_quant_conv", PREFIXES["vae"] + "post_quant_conv."),
    ("denoise_encoder", "denoise_encoder", PREFIXES["vae"] + "denoise_encoder."),
    ("unet", "unet", PREFIXES["unet"]),
    ("unet", "text", ""),
    ("control", "connectors", PREFIXES["unet"] + "project_modules."),
    ("control", "control", PREFIXES["control"]),
)
TEXT_PREFIXES = {"clip_l.": PREFIXES["clip_l"], "open_clip.": PREFIXES["open_clip"]}


def export(folder: Path, out: Path, recipe: Recipe) -> dict[str, Any]:
    """Write a packed model of what stages have by now, over the one that is there.

    Args:
        folder: of the training.
        out: what else lies there, such as a model card, stays.
        recipe: the training's.

    Returns:
        What model.json holds.

    Raises:
        FileNotFoundError: a stage has not started.
    """
    dims = recipe.dims
    tensors = published_tensors(folder, dims)
    with tempfile.TemporaryDirectory() as work:
        files = {"sdxl": SDXL_PARTS, "supir": SUPIR_PARTS}
        for name, parts in files.items():
            own = {key: tensor.contiguous() for key, tensor in tensors.items() if part_of(key) in parts}
            save_file(own, Path(work) / f"demo-{name}.safetensors")
        (Path(work) / CONFIG_FILE).write_text(json.dumps({"dims": dims.to_dict()}), encoding="utf-8")
        paths = (Path(work) / f"demo-{name}.safetensors" for name in files)
        packed = Path(work) / "packed"
        config = pack(plan_packing(*paths, [], "fp16"), packed)
        config["trained"] = provenance(folder, recipe)
        (packed / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        shutil.copytree(packed, out, dirs_exist_ok=True)
    return config


def published_tensors(folder: Path, dims: ModelDims) -> dict[str, Tensor]:
    """The averaged weights under the published names; zeros for CLIP-L's only layer, which SDXL never reads."""
    tensors: dict[str, Tensor] = {}
    for stage, part, prefix in PARTS:
        for key, tensor in checkpoints.averaged(folder, stage, part).items():
            tensors[_published(key) if part == "text" else prefix + key] = tensor
    for shapes in wanted(dims).values():
        for key, shape in shapes.items():
            if key.startswith(PREFIXES["clip_l"]):
                tensors.setdefault(key, torch.zeros(shape))
    return tensors


def _published(key: str) -> str:
    """Of a weight of `training.text.Text`."""
    own = next(prefix for prefix in TEXT_PREFIXES if key.startswith(prefix))
    return TEXT_PREFIXES[own] + key.removeprefix(own)


def provenance(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """How the weights came to be."""
    stages = {}
    for stage in STAGES:
        saved = checkpoints.read(folder / f"{stage}.pt") or {}
        stages[stage] = asdict(recipe.stages[stage]) | {
            "steps": saved.get("step", 0),
            "minutes": round(
                (saved.get("spent_s", 0.0) + checkpoints.Earlier(*saved.get("earlier", ())).seconds) / 60, 1
            ),
            "finished": saved.get("finished", False),
        }
    return {
        "by": "training.train",
        "pictures": f"{recipe.pictures} drawn by training.pictures, seed {recipe.seed}",
        "stages": stages,
    }


def main() -> None:
    """Read the options, write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--recipe", choices=["cpu", "gpu"], default="cpu", help="that it was trained with")
    options = parser.parse_args()
    config = export(options.folder, options.out, GPU if options.recipe == "gpu" else CPU)
    total = sum(file["bytes"] for file in config["packed"]["files"].values())
    print(f"{options.out}: {total / 1e6:.1f} MB")  # noqa: T201  a program's output


if __name__ == "__main__":
    main()
