from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from supir_core.color import COLOR_FIXES, adain, guided, wavelet
from supir_core.fidelity import ciede2000, lab
from supir_core.image import to_uint8

FIXES = ["wavelet", "adain", "input"]


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


def shapes(height: int = 192, width: int = 192) -> Tensor:
    """(1, 3, height, width): coloured discs and stripes, as a restoration ought to be."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    disc = ((y - 80) ** 2 + (x - 70) ** 2 < 50**2).float()
    stripes = ((x // 24) % 2 * (y > 130)).float()
    colours = torch.tensor([[-0.3, 0.1, 0.4], [0.6, 0.1, -0.3], [0.5, 0.5, -0.1]])[:, :, None, None]
    return (colours[0] + disc * (colours[1] - colours[0]) + stripes * (colours[2] - colours[0]))[None]


def soft(image: Tensor, cells: int = 3) -> Tensor:
    padded = F.pad(image, (cells, cells, cells, cells), mode="replicate")
    return F.avg_pool2d(padded, 2 * cells + 1, stride=1)


def noisy(image: Tensor) -> Tensor:
    return image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(3))


def colour_difference(one: Tensor, other: Tensor) -> float:
    return float(ciede2000(*(lab(to_uint8(soft(image))) for image in (one, other))).mean())


def test_the_photo_knows_better_than_stage_1_where_that_has_a_tint() -> None:
    truth = shapes()
    photo, stage1 = noisy(soft(truth)), soft(truth) * torch.tensor([1.15, 1.0, 0.9])[:, None, None] + 0.06
    restored = truth * torch.tensor([1.1, 0.9, 0.9])[:, None, None] + 0.04
    before = colour_difference(restored, truth)
    from_photo = colour_difference(guided(restored, photo), truth)
    assert from_photo < 0.35 * before
    for fix in (wavelet, adain):
        assert from_photo < 0.35 * colour_difference(fix(restored, stage1), truth)


def step(low: float, high: float, at: int) -> Tensor:
    """(1, 3, 96, 192): two areas of grey, an upright edge between them."""
    out = torch.full((1, 3, 96, 192), low)
    out[..., at:] = high
    return out


@pytest.mark.parametrize("at", [96, 97, 98, 99])  # of the cells
@pytest.mark.parametrize("drift", [(-0.3, 0.3), (-0.5, 0.7), (-0.8, 0.5)])
def test_no_halo_where_both_sides_of_an_edge_have_drifted_apart(at: int, drift: tuple[float, float]) -> None:
    photo, restored = step(-0.5, 0.5, at), step(*drift, at)
    halo, plain = ((fix(restored, photo) - photo).abs().amax() for fix in (guided, wavelet))
    assert halo < 0.015 and halo < 0.15 * plain


@pytest.mark.parametrize("at", [96, 98])
def test_a_softer_photo_makes_no_halo_either(at: int) -> None:
    sharp = step(-0.5, 0.5, at)
    fixed = guided(sharp, soft(sharp, 6))  # of 13 pixels
    assert (fixed - sharp).abs().amax() < 0.03
    assert fixed.amin() > -0.51 and fixed.amax() < 0.51  # nothing beyond what either has


def test_the_photos_noise_stays_behind() -> None:
    truth = shapes()
    noise = noisy(truth) - truth
    assert (guided(truth, truth + noise) - truth).std() < 0.06 * noise.std()


@pytest.mark.parametrize("fix", ["wavelet", "input"])
def test_grey_stays_grey(fix: str) -> None:
    content, style = (picture(seed)[:, :1].repeat(1, 3, 1, 1) for seed in (1, 2))
    fixed = COLOR_FIXES[fix](content, style)
    assert (fixed[:, 0] == fixed[:, 1]).all() and (fixed[:, 1] == fixed[:, 2]).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 50), (64, 64), (61, 130)])
def test_pictures_need_not_be_whole_cells(height: int, width: int) -> None:
    content = picture(1, height, width)
    assert guided(content, picture(2, height, width)).shape == content.shape
    torch.testing.assert_close(guided(content, content + 0.25), content + 0.25, rtol=0, atol=1e-5)


def test_a_picture_far_away_changes_nothing() -> None:
    photo = picture(2, 256, 512)
    whole, part = guided(picture(1, 256, 512), photo), guided(picture(1, 256, 512)[..., :320], photo[..., :320])
    torch.testing.assert_close(whole[..., :224], part[..., :224], rtol=0, atol=1e-5)


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
