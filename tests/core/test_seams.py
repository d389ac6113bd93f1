"""Blending leaves no step at the borders of windows that stands out, and the measure sees one where nothing is blended.

Means over a few photos are compared, and their differences from the same photos restored in one window, which show what
windows do without what the photos show (`python -m tests.bench.seams`).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from supir_core.restorer import Restorer
from supir_core.tiling import Tiling, blend
from tests.bench.seams import CELL_PX, HEIGHT, WIDTH, looks, restore, restore_whole, seams

PHOTOS = 3


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load("demo", device="cpu")


@pytest.fixture(scope="module")
def whole(restorer: Restorer) -> Tensor:
    return restore_whole(restorer, PHOTOS)


@pytest.mark.parametrize("name", ["planned", "published"])
def test_no_step_at_a_border_exceeds_the_pictures_own(name: str, restorer: Restorer, whole: Tensor) -> None:
    look = looks()[name]
    pictures = restore(restorer, look.settings, PHOTOS)
    assert seams(pictures.mean(dim=0), look.tiling).largest < 1.1  # chance decides between lines that are alike
    assert seams((pictures - whole).mean(dim=0), look.tiling).mean < 2


def test_windows_that_only_touch_leave_steps_that_stand_out(restorer: Restorer, whole: Tensor) -> None:
    look = looks()["pasted"]
    pictures = restore(restorer, look.settings, PHOTOS)
    assert seams((pictures - whole).mean(dim=0), look.tiling).mean > 3


# Without networks: windows that disagree by a constant


def later_wins(tiling: Tiling) -> Tiling:
    """The same windows, but where they overlap the later one is taken as it is."""
    height, width = tiling.weights.shape
    down, across = (10.0 ** -torch.arange(side, dtype=torch.float64) for side in (height, width))
    return tiling._replace(weights=torch.outer(down, across))


def picture(tiling: Tiling, disagreement: float) -> Tensor:
    """A gradient with slight noise, from windows that are off by random constants."""
    generator = torch.Generator().manual_seed(3)
    gradient = torch.linspace(-0.2, 0.2, HEIGHT)[:, None] - torch.linspace(-0.2, 0.2, WIDTH)
    latent = (gradient + 0.02 * torch.randn(HEIGHT, WIDTH, generator=generator)).expand(1, 1, -1, -1)
    off = disagreement * torch.randn(len(tiling.windows), generator=generator)
    field = blend(tiling, [w.cut(latent) + o for w, o in zip(tiling.windows, off, strict=True)], HEIGHT, WIDTH)
    return F.interpolate(field, scale_factor=CELL_PX)[0]


def test_the_same_windows_pasted_over_each_other_leave_steps() -> None:
    tiling = looks()["planned"].tiling
    blended, pasted = (seams(picture(way, 0.1), tiling) for way in (tiling, later_wins(tiling)))
    assert blended.largest < 1.5
    assert pasted.largest > 3
    assert pasted.mean > 2 * blended.mean


def test_without_disagreement_no_way_of_blending_leaves_steps() -> None:
    tiling = looks()["planned"].tiling
    for way in (tiling, later_wins(tiling)):
        assert seams(picture(way, 0), tiling).largest < 1.5
