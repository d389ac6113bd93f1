"""`python -m training.unpack MODEL DIR` turns an exported model into checkpoints again, so that its training can go on.

Optimizers start anew, and weights have been rounded to 16 bits, which training does not notice. Then for example
`python -m training.train --out DIR --stage decoder --again --minutes 200`. Needs the whole environment.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from supir_core.models import CONFIG_FILE, directory_of, packed_files
from supir_core.networks.dims import ModelDims
from supir_core.parts import PREFIXES
from training import checkpoints
from training.export import PARTS, TEXT_PREFIXES
from training.recipe import STAGES
from training.text import Text

CONNECTORS = PREFIXES["unet"] + "project_modules."


def unpack(model: str, folder: Path) -> None:
    """Write a finished checkpoint of every stage.

    Args:
        model: a directory that `training.export` wrote, or `demo`.
        folder: of the training.

    Raises:
        FileExistsError: there are checkpoints already.
    """
    if any(folder.glob("*.pt")):
        raise FileExistsError(f"{folder} holds checkpoints")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.float() for file in packed_files(model) for key, tensor in load_file(file).items()}
    config = json.loads((directory_of(model) / CONFIG_FILE).read_text(encoding="utf-8"))
    text_keys = list(Text(ModelDims.from_dict(config["dims"]).text).state_dict())
    for stage in STAGES:
        trained = config["trained"]["stages"][stage]
        weights = {
            part: _text(tensors, text_keys) if part == "text" else _below(tensors, prefix)
            for owner, part, prefix in PARTS
            if owner == stage
        }
        content = {
            "step": trained["steps"],
            "spent_s": 60 * trained["minutes"],
            "earlier": tuple(checkpoints.Earlier()),
            "finished": True,
            "weights": weights,
            "average": weights,
            "optimizer": {},
        }
        checkpoints.write_atomically(folder / f"{stage}.pt", content)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    inner = CONNECTORS if prefix == PREFIXES["unet"] else "\n"  # the control stage's
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix) and not key.startswith(inner)
    }


def _text(tensors: dict[str, Tensor], keys: Iterable[str]) -> dict[str, Tensor]:
    own = {key: next(prefix for prefix in TEXT_PREFIXES if key.startswith(prefix)) for key in keys}
    return {key: tensors[TEXT_PREFIXES[prefix] + key.removeprefix(prefix)] for key, prefix in own.items()}


def main() -> None:
    """Read the options, write the checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a directory that training.export wrote, or demo")
    parser.add_argument("folder", type=Path, metavar="DIR")
    options = parser.parse_args()
    unpack(options.model, options.folder)


if __name__ == "__main__":
    main()
