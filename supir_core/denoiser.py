"""From the networks' predicted noise to a denoised latent: snapping, scaling, guidance, tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core.conditioning import Conditioning
from supir_core.guidance import classifier_free, linear_in_sigma
from supir_core.memory import free_memory, is_out_of_memory
from supir_core.networks.control import ControlBranch
from supir_core.networks.unet import UNet
from supir_core.presets import Preset, Tile
from supir_core.samplers import Query
from supir_core.schedule import sigma_table
from supir_core.tiling import Tiling, WindowCost, blend, planned_tiling, published_tiling


class Denoiser:
    """`denoised = x - sigma * eps(x / sqrt(sigma^2 + 1), t)` with sigma snapped to the 1000-step table.

    Args:
        unet: the UNet with connectors.
        control: the control branch.
    """

    def __init__(self, unet: UNet, control: ControlBranch):
        weight = next(unet.parameters())
        self.unet, self.control = unet, control
        self.dtype, self.device = weight.dtype, weight.device
        self._table = sigma_table()

    def snap(self, sigma: Tensor) -> Tensor:
        """The timestep (B,) int64 whose sigma is nearest; above the table it is the last one."""
        return (sigma.cpu()[:, None] - self._table).abs().argmin(dim=1)

    def __call__(
        self, x: Tensor, sigma: Tensor, z_control: Tensor, cond: Conditioning, control_scale: Tensor
    ) -> Tensor:
        """Denoise a batch.

        Args:
            x: (B, 4, h, w) float32, noise of standard deviation `sigma` on a latent.
            sigma: (B,) float32.
            z_control: (B, 4, h, w) float32.
            cond: B rows.
            control_scale: (B,).

        Returns:
            (B, 4, h, w) float32.
        """
        t = self.snap(sigma)
        snapped = self._table[t].to(x)[:, None, None, None]
        scaled = (x / (snapped**2 + 1).sqrt()).to(self.dtype)
        t = t.to(self.device)
        context, vector = cond.context.to(self.dtype), cond.vector.to(self.dtype)
        features = self.control(scaled, t, context, vector, z_control.to(self.dtype))
        eps = self.unet(scaled, t, context, vector, features, control_scale)
        return x - snapped * eps.float()


class Subject(NamedTuple):
    """What the denoiser has to know of one photo beside its noisy latent."""

    z_control: Tensor  # (1, 4, h, w) float32
    cond: Conditioning  # one row, or one per window
    uncond: Conditioning  # one row
    preset: Preset
    tiling: Tiling  # of the latent


class _Row(NamedTuple):
    """One window of one photo, ready for the networks."""

    x: Tensor  # (1, 4, th, tw)
    z_control: Tensor
    cond: Conditioning  # one row
    uncond: Conditioning
    sigma_hat: float
    guidance: float
    control_scale: float


def denoise_together(
    denoiser: Denoiser, subjects: Sequence[Subject], queries: Sequence[Query], batch: int
) -> list[Tensor]:
    """Guided estimates of several photos; their windows share the networks' batches.

    Args:
        denoiser: the networks.
        subjects: one per photo.
        queries: one per photo.
        batch: at most this many windows in one call of the networks (each counts twice: with and without the prompt).

    Returns:
        One (1, 4, h, w) float32 per photo.
    """
    rows = [row for query, subject in zip(queries, subjects, strict=True) for row in _rows(query, subject)]
    parts: dict[int, Tensor] = {}
    for indices in _batches(rows, batch):
        parts |= dict(zip(indices, _guided_in_memory(denoiser, [rows[i] for i in indices]), strict=True))
    done = (parts[i] for i in range(len(rows)))
    return [
        blend(subject.tiling, [next(done) for _ in subject.tiling.windows], *query.x.shape[-2:])
        for query, subject in zip(queries, subjects, strict=True)
    ]


def latent_tiling(latent: Tensor, tile: Tile, cost: WindowCost) -> Tiling:
    """How a latent (1, 4, h, w) is cut under a preset.

    Args:
        latent: of the photo.
        tile: the preset's.
        cost: of one window, for planned tiling.
    """
    height, width = latent.shape[-2:]
    if tile.mode == "published":
        return published_tiling(height, width, tile.size_lat, tile.stride_lat)
    return planned_tiling(height, width, tile.size_lat, tile.size_lat - tile.stride_lat, cost)


def _rows(query: Query, subject: Subject) -> Iterator[_Row]:
    preset = subject.preset
    guidance = linear_in_sigma(preset.guidance.start, preset.guidance.end, query.sigma_hat)
    control_scale = linear_in_sigma(preset.control.start, preset.control.end, query.sigma)
    for i, window in enumerate(subject.tiling.windows):
        row = i if len(subject.cond.context) > 1 else 0
        cond = Conditioning(*(part[row : row + 1] for part in subject.cond))
        yield _Row(
            window.cut(query.x),
            window.cut(subject.z_control),
            cond,
            subject.uncond,
            query.sigma_hat,
            guidance,
            control_scale,
        )


def _batches(rows: Sequence[_Row], batch: int) -> Iterator[list[int]]:
    """Indices of rows that can run together: the same window shape, at most `batch` of them."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        by_shape.setdefault(tuple(row.x.shape), []).append(i)
    for indices in by_shape.values():
        for start in range(0, len(indices), batch):
            yield indices[start : start + batch]


def _guided_in_memory(denoiser: Denoiser, rows: Sequence[_Row]) -> list[Tensor]:
    """`_guided`, in halves where the device's memory does not take all rows at once."""
    try:
        return _guided(denoiser, rows)
    except RuntimeError as error:
        if len(rows) == 1 or not is_out_of_memory(error):
            raise
    free_memory()
    middle = len(rows) // 2
    return _guided_in_memory(denoiser, rows[:middle]) + _guided_in_memory(denoiser, rows[middle:])


def _guided(denoiser: Denoiser, rows: Sequence[_Row]) -> list[Tensor]:
    """One call of the networks with both guidance halves, the negative prompts first."""
    x = torch.cat([row.x for row in rows])
    z_control = torch.cat([row.z_control for row in rows])
    halves = [row.uncond for row in rows] + [row.cond for row in rows]
    both = denoiser(
        torch.cat([x, x]),
        x.new_tensor([row.sigma_hat for row in rows] * 2),
        torch.cat([z_control, z_control]),
        Conditioning(torch.cat([c.context for c in halves]), torch.cat([c.vector for c in halves])),
        x.new_tensor([row.control_scale for row in rows] * 2),
    )
    uncond, cond = both.chunk(2)
    scale = x.new_tensor([row.guidance for row in rows])[:, None, None, None]
    return list(classifier_free(uncond, cond, scale).split(1))
