"""Memory and time of decoding one picture, whole and by strips, at demo dimensions on the CPU.

    python -m tests.bench.vae_memory [--side 4096] [--budget-mb whole 1024 0] [--strip-mb 32] [--threads 2] [--steady]

Every decoding has a process of its own. Prints a table and, as the last line, one JSON object. Peak is the largest
resident set (`VmHWM`) less the resident set before the decoding: `ru_maxrss` would not do, because a new process
inherits it from the one that started it. Error is the largest difference from the first picture over its deviation.
With `--steady` the C library gives freed strips back at once; else it keeps some, more or less from run to run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from supir_core import vae_strips
from supir_core.networks.dims import DEMO, VaeDims
from supir_core.networks.vae import Decoder
from supir_core.parts import PREFIXES
from supir_core.speed import resident_bytes
from tests.formula import formula_tensor

DIMS = DEMO.vae
WHOLE = "whole"
MIB = 2**20
STRIPS_AT_ONCE = 8  # strips with their halos, sums over them in float64, what a convolution holds besides
STEADY = {"MALLOC_MMAP_THRESHOLD_": str(MIB)}  # of glibc
REPOSITORY = Path(__file__).parents[2]


class Decoding(NamedTuple):
    """What one decoding took."""

    peak_bytes: int  # above what the process held before
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="of the picture, in pixels")
    parser.add_argument("--budget-mb", nargs="+", default=["1024", "0"], help=f"of kept maps, or `{WHOLE}`")
    parser.add_argument("--strip-mb", type=int, default=vae_strips.STRIP_BYTES // MIB)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steady", action="store_true")
    parser.add_argument("--child", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    side, strip, threads = arguments.side, arguments.strip_mb * MIB, arguments.threads
    if arguments.child:
        [budget] = arguments.budget_mb
        print(json.dumps(_decode_here(side, budget, strip, threads, Path(arguments.child))._asdict()))
        return
    rows = []
    print(
        f"{side} x {side} pixels, {threads} threads; bound at budget 0: {bound_bytes(DIMS, side, strip) / MIB:.0f} MiB"
    )
    print(f"{'budget MiB':>10s} {'peak MiB':>10s} {'seconds':>8s} {'error':>9s}")
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.npy"
        for budget in arguments.budget_mb:
            file = first if not rows else Path(folder) / "other.npy"
            decoding = measure(side, budget, strip, threads, file, arguments.steady)
            row = {
                "budget_mb": budget if budget == WHOLE else int(budget),
                "peak_mb": round(decoding.peak_bytes / MIB),
                "seconds": round(decoding.seconds, 1),
                "error": _distance(file, first),
            }
            rows.append(row)
            print(
                f"{row['budget_mb']!s:>10s} {row['peak_mb']:10d} {row['seconds']:8.1f} {row['error']:9.1e}", flush=True
            )
    facts = {"side": side, "strip_mb": strip // MIB, "bound_mb": round(bound_bytes(DIMS, side, strip) / MIB)}
    facts["steady"] = arguments.steady
    machine = {"cores": os.cpu_count(), "threads": threads, "date": time.strftime("%Y-%m-%d")}
    print(json.dumps({**facts, "decodings": rows, **machine}))


def bound_bytes(dims: VaeDims, side: int, strip_bytes: int) -> int:
    """What decoding by strips may take with nothing kept beyond need, in float32.

    Two maps of the finest level (a residual block's source and its result), the picture, and the strips.
    """
    return (2 * dims.channels * side**2 + 3 * side**2) * 4 + STRIPS_AT_ONCE * strip_bytes


def measure(side: int, budget: str, strip_bytes: int, threads: int, file: Path, steady: bool) -> Decoding:
    """Decode a random latent in a process of its own and leave the picture in a .npy file.

    Args:
        side: of the picture, in pixels.
        budget: mebibytes that kept maps may take, or `whole`.
        strip_bytes: of one strip; whole mebibytes.
        threads: of the processor.
        file: for the picture, (3, side, side) float32.
        steady: whether freed strips are given back at once.
    """
    options = {"side": side, "budget-mb": budget, "strip-mb": strip_bytes // MIB, "threads": threads, "child": file}
    process = subprocess.run(
        [sys.executable, "-m", "tests.bench.vae_memory", *(f"--{name}={value}" for name, value in options.items())],
        cwd=REPOSITORY,
        env=os.environ | (STEADY if steady else {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Decoding(**json.loads(process.stdout))


@torch.inference_mode()
def _decode_here(side: int, budget: str, strip_bytes: int, threads: int, file: Path) -> Decoding:
    torch.set_num_threads(threads)
    decoder = _decoder()

    def decode(z: Tensor) -> Tensor:
        return decoder(z) if budget == WHOLE else vae_strips.decode(decoder, z, int(budget) * MIB, strip_bytes)

    cells = side // DIMS.factor
    z = torch.randn(1, DIMS.latent_channels, cells, cells, generator=torch.Generator().manual_seed(1))
    decode(z[..., :8, :8])  # what is loaded and set up once is no part of it
    before, start = resident_bytes("VmRSS"), time.monotonic()
    picture = decode(z)
    decoding = Decoding(resident_bytes("VmHWM") - before, time.monotonic() - start)
    np.save(file, picture[0].numpy())
    return decoding


def _decoder() -> Decoder:
    decoder = Decoder(DIMS)
    prefix = PREFIXES["vae"] + "decoder."
    decoder.load_state_dict(
        {key: formula_tensor(prefix + key, tuple(t.shape)) for key, t in decoder.state_dict().items()}
    )
    return decoder.requires_grad_(False)


def _distance(file: Path, first: Path) -> float:
    ours, theirs = (np.load(path, mmap_mode="r") for path in (file, first))
    return float(max(abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) / math.sqrt(theirs.var(dtype="f8")))


if __name__ == "__main__":
    main()
