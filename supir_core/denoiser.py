"""From the networks' predicted noise to a denoised latent: snapping, scaling, guidance, tiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from supir_core.compiled import Step
from supir_core.conditioning import Conditioning
from supir_core.guidance import classifier_free, linear_in_sigma
from supir_core.memory import free_memory, is_out_of_memory
from supir_core.networks.control import ControlBranch
from supir_core.networks.unet import UNet
from supir_core.presets import Preset, Tile
from supir_core.samplers import Query
from supir_core.schedule import sigma_table
from supir_core.tiling import Tiling, WindowCost, blend, planned_tiling, published_tiling

log = logging.getLogger(__name__)


class Prompt(NamedTuple):
    """Prompts as the networks take them in every step; rows are prompts."""

    unet: Tensor  # (B, 77, text width of the UNet) keys and values, as `Trunk.read` gives them
    control: Tensor  # (B, 77, text width of the control branch)
    vector: Tensor  # (B, vector_dim)

    def row(self, index: int) -> Prompt:
        """One prompt."""
        return Prompt(*(part[index : index + 1] for part in self))


class Denoiser:
    """`denoised = x - sigma * eps(x / sqrt(sigma^2 + 1), t)` with sigma snapped to the 1000-step table.

    Args:
        unet: the UNet with connectors.
        control: the control branch.
        faster: given the networks' step, one that computes the same, such as `Compiled`.
    """

    def __init__(self, unet: UNet, control: ControlBranch, faster: Callable[[Step], Step] = lambda step: step):
        weight = next(unet.parameters())
        self.unet, self.control = unet, control
        self.dtype, self.device = weight.dtype, weight.device
        self.largest_call: dict[tuple[int, ...], int] = {}  # windows of a shape that fit into memory, where not all did
        self._table = sigma_table()
        self._step = faster(self._eps)

    def subject(
        self, z_control: Tensor, cond: Conditioning, uncond: Conditioning, preset: Preset, tiling: Tiling
    ) -> Subject:
        """What of a photo is the same in every step.

        Args:
            z_control: (1, 4, h, w) latent of the degraded photo.
            cond: the prompt, or one per window.
            uncond: the negative prompt.
            preset: the look.
            tiling: of the latent.
        """
        hints = self.hint(torch.cat([window.cut(z_control) for window in tiling.windows]))
        return Subject(hints, self.read(cond), self.read(uncond), preset, tiling)

    def read(self, cond: Conditioning) -> Prompt:
        """Prompts as the networks' attentions take them."""
        context = cond.context.to(self.dtype)
        return Prompt(self.unet.read(context), self.control.read(context), cond.vector.to(self.dtype))

    def hint(self, z_control: Tensor) -> Tensor:
        """What the control branch sees of latents (B, 4, h, w)."""
        return self.control.hint(z_control.to(self.dtype))

    def snap(self, sigma: Tensor) -> Tensor:
        """The timestep (B,) int64 whose sigma is nearest; above the table it is the last one."""
        return (sigma.cpu()[:, None] - self._table).abs().argmin(dim=1)

    def __call__(self, x: Tensor, sigma: Tensor, hint: Tensor, prompt: Prompt, control_scale: Tensor) -> Tensor:
        """Denoise a batch.

        Args:
            x: (B, 4, h, w) float32, noise of standard deviation `sigma` on a latent.
            sigma: (B,) float32.
            hint: B rows of `hint`.
            prompt: B rows of `read`.
            control_scale: (B,).

        Returns:
            (B, 4, h, w) float32.
        """
        t = self.snap(sigma)
        snapped = self._table[t].to(x)[:, None, None, None]
        scaled = (x / (snapped**2 + 1).sqrt()).to(self.dtype)
        eps = self._step(scaled, t.to(self.device), hint, *prompt, control_scale)
        return x - snapped * eps.float()

    def _eps(
        self, x: Tensor, t: Tensor, hint: Tensor, text: Tensor, control_text: Tensor, vector: Tensor, scale: Tensor
    ) -> Tensor:
        return self.unet(x, t, text, vector, self.control(x, t, control_text, vector, hint), scale)


class Subject(NamedTuple):
    """What the denoiser has to know of one photo beside its noisy latent."""

    hints: Tensor  # one row per window
    cond: Prompt  # one row, or one per window
    uncond: Prompt  # one row
    preset: Preset
    tiling: Tiling  # of the latent


class _Row(NamedTuple):
    """One window of one photo, ready for the networks."""

    x: Tensor  # (1, 4, th, tw)
    hint: Tensor
    cond: Prompt  # one row
    uncond: Prompt
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
        yield _Row(
            window.cut(query.x),
            subject.hints[i : i + 1],
            subject.cond.row(i if len(subject.cond.vector) > 1 else 0),
            subject.uncond,
            query.sigma_hat,
            guidance,
            control_scale,
        )


def _batches(rows: Sequence[_Row], batch: int) -> Iterator[list[int]]:
    """Indices of rows that can run together: of one window shape, `batch` of them or a smaller power of two.

    So that the networks see few shapes, and no row that is there to fill a batch.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(rows):
        by_shape.setdefault(tuple(row.x.shape), []).append(i)
    for indices in by_shape.values():
        start = 0
        while start < len(indices):
            left = len(indices) - start
            count = batch if left >= batch else 2 ** (left.bit_length() - 1)
            yield indices[start : start + count]
            start += count


def _guided_in_memory(denoiser: Denoiser, rows: Sequence[_Row]) -> list[Tensor]:
    """`_guided`, in halves where the device's memory does not take all rows at once."""
    shape = tuple(rows[0].x.shape)
    middle = len(rows) // 2
    if len(rows) <= denoiser.largest_call.get(shape, len(rows)):
        try:
            return _guided(denoiser, rows)
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not is_out_of_memory(error):
                raise
        free_memory()
        denoiser.largest_call[shape] = middle
        log.warning(
            "no memory for %d windows of %dx%d cells in one call: from now on %d", len(rows), *shape[-2:], middle
        )
    return _guided_in_memory(denoiser, rows[:middle]) + _guided_in_memory(denoiser, rows[middle:])


def _guided(denoiser: Denoiser, rows: Sequence[_Row]) -> list[Tensor]:
    """One call of the networks with both guidance halves, the negative prompts first."""
    x = torch.cat([row.x for row in rows] * 2)
    prompts = [row.uncond for row in rows] + [row.cond for row in rows]
    both = denoiser(
        x,
        x.new_tensor([row.sigma_hat for row in rows] * 2),
        torch.cat([row.hint for row in rows] * 2),
        Prompt(*(torch.cat(parts) for parts in zip(*prompts, strict=True))),
        x.new_tensor([row.control_scale for row in rows] * 2),
    )
    uncond, cond = both.chunk(2)
    scale = x.new_tensor([row.guidance for row in rows])[:, None, None, None]
    return list(classifier_free(uncond, cond, scale).split(1))
