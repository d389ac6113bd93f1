"""What the cases of `samplers` and `end_to_end` have in common: injected noise, and presets made of JSON settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from supir_core.noise import Noise
from supir_core.presets import Color, Control, Guidance, Preset, Pull, Sampling, Size, Stage1, Text, Tile, load_preset

POSTERIOR_SEED = 5000  # these count from a case's noise_seed_base; churn noise of step i has seed i
START_SEED = 90


def rn(seed: int, shape: Sequence[int]) -> Tensor:
    """The golden data's random inputs."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32))


def injected_noise(base: int, batch: int, sample: int, start: Tensor | None = None) -> Noise:
    """The noise of one sample of a case: its row of the draws for the whole batch.

    Args:
        base: the case's noise_seed_base.
        batch: samples of the case.
        sample: 0 to batch - 1.
        start: (batch, C, h, w) initial noise; drawn if not given.
    """

    def draw(name: str, shape: Sequence[int]) -> Tensor:
        if name == "start" and start is not None:
            drawn = start
        else:
            offset = {"posterior": POSTERIOR_SEED, "start": START_SEED}.get(name)
            offset = int(name.removeprefix("step-")) if offset is None else offset
            drawn = rn(base + offset, (batch, *shape[1:]))
        return drawn[sample : sample + 1]

    return draw


def preset(
    *,
    num_steps: int,
    churn: float,
    s_noise: float,
    guidance: tuple[float, float],
    restore_cfg: float,
    control: tuple[float, float],
    tile: tuple[int, int],
    color: str = "none",
    positive: str = "",
    negative: str = "",
) -> Preset:
    """A preset of a case's settings; built directly, so that it may lie beyond the bounds of preset files.

    Args:
        num_steps: of the sampler.
        churn: of the sampler.
        s_noise: of the sampler.
        guidance: scale at the highest noise and at none.
        restore_cfg: the published name of tau_r, where 0 and less mean off.
        control: scale at the highest noise and at none.
        tile: size and stride.
        color: the colour fix.
        positive: suffix of every prompt.
        negative: the negative prompt.
    """
    if color not in ("wavelet", "adain", "none"):
        raise ValueError(f"unknown colour fix {color!r}")
    return Preset(
        name="parity",
        purpose="the golden data's settings",
        size=Size(upscale=1.0, min_size_px=64, short_side_px=None),
        stage1=Stage1("denoise"),
        sampling=Sampling("euler", num_steps, churn, eta=1.0, s_noise=s_noise, seed=0),
        guidance=Guidance(*guidance),
        pull=Pull(restore_cfg if restore_cfg > 0 else None, None),
        control=Control(*control),
        text=Text(positive, negative),
        tile=Tile("published", *tile),
        color=Color(color),  # type: ignore[arg-type]
        review=load_preset("paper").review,  # judges results; no part of them
    )
