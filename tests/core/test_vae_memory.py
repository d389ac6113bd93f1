"""Decoding by strips takes the memory that it says, and less than a whole run: measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from supir_core.vae_strips import STRIP_BYTES
from tests.bench.vae_memory import DIMS, MIB, WHOLE, bound_bytes, measure

SIDE = 512
STRIP = MIB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from /proc")
def test_strips_stay_within_their_bound_and_a_whole_run_does_not(tmp_path: Path) -> None:
    files = tmp_path / "strips.npy", tmp_path / "whole.npy"
    strips, whole = (
        measure(SIDE, budget, STRIP, 1, file, steady=True) for budget, file in zip(("0", WHOLE), files, strict=True)
    )
    bound = bound_bytes(DIMS, SIDE, STRIP)
    assert strips.peak_bytes < bound < 1.2 * bound < whole.peak_bytes
    ours, theirs = map(np.load, files)
    assert abs(ours - theirs).max() < 1e-4 * theirs.std()


def test_what_a_picture_of_4096_pixels_takes() -> None:
    assert bound_bytes(DIMS, 4096, STRIP_BYTES) == 4544 * MIB
