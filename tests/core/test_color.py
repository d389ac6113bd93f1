from __future__ import annotations

import pytest
import torch
from torch import Tensor

from supir_core.color import COLOR_FIXES, adain, wavelet

FIXES = ["wavelet", "adain"]


def picture(seed: int, height: int = 48, width: int = 64, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("fix", FIXES)
def test_the_colours_of_the_picture_itself_change_nothing(fix: str) -> None:
    torch.testing.assert_close(COLOR_FIXES[fix](picture(1), picture(1)), picture(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", FIXES)
def test_a_colour_cast_on_the_restored_picture_is_taken_away(fix: str) -> None:
    cast = torch.tensor([0.3, -0.2, 0.1])[:, None, None]
    clean = COLOR_FIXES[fix](picture(1), picture(2))
    torch.testing.assert_close(COLOR_FIXES[fix](picture(1) + cast, picture(2)), clean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fix", FIXES)
def test_photos_in_a_batch_do_not_mix(fix: str) -> None:
    content, style = picture(1, batch=3), picture(2, batch=3)
    together = COLOR_FIXES[fix](content, style)
    for i in range(3):
        alone = COLOR_FIXES[fix](content[i : i + 1], style[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-5)


def test_adain_gives_each_channel_the_references_mean_and_contrast() -> None:
    reference = picture(2) * torch.tensor([0.5, 1.0, 0.3])[:, None, None] + 0.2
    fixed = adain(picture(1), reference)
    torch.testing.assert_close(fixed.mean((2, 3)), reference.mean((2, 3)), rtol=0, atol=1e-5)
    torch.testing.assert_close(fixed.std((2, 3)), reference.std((2, 3)), rtol=1e-3, atol=0)


def test_wavelet_takes_flat_colour_from_the_reference_and_detail_from_the_picture() -> None:
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    checkerboard = ((rows + columns) % 2 * 2.0 - 1).expand(1, 3, 128, 128)
    grey = torch.full_like(checkerboard, 0.25)
    middle = (..., slice(48, 80), slice(48, 80))
    torch.testing.assert_close(wavelet(checkerboard, grey)[middle], (checkerboard + grey)[middle], rtol=0, atol=1e-3)
    torch.testing.assert_close(wavelet(grey, checkerboard)[middle], (grey * 0)[middle], rtol=0, atol=1e-3)


def test_wavelet_splits_a_picture_without_loss() -> None:
    nothing = torch.zeros(1, 3, 48, 64)
    low, high = wavelet(nothing, picture(1)), wavelet(picture(1), nothing)
    torch.testing.assert_close(low + high, picture(1), rtol=0, atol=1e-6)


def test_none_leaves_the_picture_alone() -> None:
    content = picture(1)
    assert COLOR_FIXES["none"](content, picture(2)) is content


@pytest.mark.parametrize("fix", FIXES)
def test_a_flat_picture_stays_finite(fix: str) -> None:
    assert COLOR_FIXES[fix](torch.zeros(1, 3, 48, 64), picture(2)).isfinite().all()
