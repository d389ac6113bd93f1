"""`supir bench captions`: how fast a captioning model is on this machine, and what memory it takes."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console

from supir_core.caption_model import CaptionSettings
from supir_core.captioner import Captioner
from supir_core.image import CAPTION_SIDE_PX
from supir_core.precision import device_named


def captions(
    model: str,
    *,
    pictures: int,
    batches: Sequence[int],
    max_tokens: int,
    device: str | None,
    dtype: str | None,
    quantization: str,
    as_json: bool,
) -> None:
    """Measure a captioning model; a table as it comes, and one JSON object last.

    Raises:
        SupirError: as `Captioner.load`.
    """
    place = device_named(device)
    console = Console(stderr=True)
    settings = CaptionSettings(max_new_tokens=max_tokens, time_limit_s=3600.0)
    with console.status("loading the model"):
        start = time.monotonic()
        captioner = Captioner.load(model, device=device, dtype=dtype, quantization=quantization, settings=settings)
        loaded_s = time.monotonic() - start
    facts: dict[str, Any] = {
        "model": model, "device": place.type, "dtype": dtype, "quantization": quantization, "max_tokens": max_tokens,
        "load_s": round(loaded_s, 2), "weights_mb": round(captioner.weights_bytes / 2**20), "pictures": pictures,
        "date": time.strftime("%Y-%m-%d"), "batches": [],
    }  # fmt: skip
    seen = _pictures(pictures)
    captioner.caption(seen[:1])  # the first call builds what later ones use
    say = (lambda line: None) if as_json else _say
    say(f"{model}: weights {facts['weights_mb']} MiB, loaded in {loaded_s:.1f} s; {pictures} pictures of noise")
    say("batch  pictures/s   tokens/s   peak memory")
    for batch in batches:
        captioner.batch = batch
        if place.type == "cuda":
            torch.cuda.reset_peak_memory_stats(place)
        with console.status(f"captioning in batches of {batch}"):
            start = time.monotonic()
            found = captioner.caption(seen)
            seconds = time.monotonic() - start
        tokens, peak = sum(caption.tokens for caption in found), _peak_mb(place)
        row = {"batch": batch, "pictures_per_s": pictures / seconds, "tokens_per_s": tokens / seconds, "peak_mb": peak}
        facts["batches"].append(row)
        say(f"{batch:5d} {pictures / seconds:11.3f} {tokens / seconds:10.1f} {peak:9d} MiB")
    sys.stdout.write(json.dumps(facts) + "\n")


def _pictures(count: int) -> list[np.ndarray]:
    shape = (CAPTION_SIDE_PX, CAPTION_SIDE_PX, 3)
    return [np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8) for n in range(count)]


def _peak_mb(place: torch.device) -> int:
    """MiB: of the GPU, or of this whole process since its start."""
    if place.type == "cuda":
        return torch.cuda.max_memory_allocated(place) // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
