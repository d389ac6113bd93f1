"""What number types cost: the end-to-end cases in each of them, as PSNR against the published float32 results.

    python -m tests.parity.precision [--golden DIR]

The peak is 2, the range of a picture. The networks are those of the golden data: 32 channels, 8 steps, weights by a
formula, whose pictures reach beyond that range. Cases with the published, inexact VAE tiling are left out. Prints a
table and, as the last line, one JSON object.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Collection, Iterator
from pathlib import Path

import torch

from supir_core.precision import PRECISIONS
from supir_core.restorer import Restorer
from tests.parity import build, end_to_end
from tests.parity.golden import GoldenFile
from tests.parity.report import psnr

PEAK = 2.0  # pictures lie in [-1, 1]


@torch.inference_mode()
def table(directory: Path, only: Collection[str] = ()) -> Iterator[tuple[str, dict[str, float]]]:
    """(precision, PSNR in dB by case): every precision, and every case (or `only` some) with an untiled autoencoder."""
    file = GoldenFile(directory, "end_to_end")
    cases = [case for case in file.setting("cases") if not case.get("encoder_tile_size")]
    cases = [case for case in cases if not only or case["name"] in only]
    for name in PRECISIONS:
        restorer = restorer_in(name, file)
        yield (
            name,
            {
                case["name"]: psnr(end_to_end.restore(file, case, restorer), file[f"{case['name']}.result"], PEAK)
                for case in cases
            },
        )


def restorer_in(name: str, file: GoldenFile) -> Restorer:
    """A restorer with the formula's weights, computing in a precision."""
    precision = PRECISIONS[name]
    networks = copy.deepcopy(build.networks(end_to_end.dims(file)))
    for component, module in networks.components().items():
        module.to(precision.dtype_of(component))
        precision.settle(component, module)
    return Restorer(networks)


def main() -> None:
    """Print the table as it comes, then all of it as one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, metavar="DIR", default=Path(__file__).parents[1] / "golden")
    figures = {}
    for name, row in table(parser.parse_args().golden):
        if not figures:
            print(f"{'PSNR in dB':12}" + "".join(f"{case:>{len(case) + 3}}" for case in row))
        print(f"{name:12}" + "".join(f"{value:{len(case) + 3}.1f}" for case, value in row.items()), flush=True)
        figures[name] = {case: round(value, 1) for case, value in row.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
