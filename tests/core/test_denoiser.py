"""The denoiser around networks that are small fakes: what they are asked, and what is made of their answers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from supir_core.conditioning import Conditioning
from supir_core.denoiser import Denoiser, Subject, denoise_together, latent_tiling
from supir_core.presets import load_preset
from supir_core.samplers import Query
from supir_core.schedule import sigma_table


class Fake(nn.Module):
    """Predicts the prompt's number as noise everywhere, and remembers what it was asked.

    Args:
        fits: rows for which there is memory.
    """

    def __init__(self, fits: int = 1000) -> None:
        super().__init__()
        self.fits = fits
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls: list[dict[str, Tensor]] = []

    def read(self, context: Tensor) -> Tensor:
        return context

    def hint(self, z_control: Tensor) -> Tensor:
        return z_control

    def forward(self, x: Tensor, t: Tensor, text: Tensor, vector: Tensor, features: Any, scale: Any = None) -> Any:
        self.calls.append({"x": x, "t": t, "control_scale": scale})
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("no memory")
        return text[:, :1, :1, None].expand_as(x)


@pytest.fixture
def unet() -> Fake:
    return Fake()


@pytest.fixture
def denoiser(unet: Fake) -> Denoiser:
    return Denoiser(unet, Fake())  # type: ignore[arg-type]


def prompt(*numbers: float) -> Conditioning:
    return Conditioning(torch.tensor(numbers).reshape(-1, 1, 1), torch.zeros(len(numbers), 1))


def subject(
    *settings: str, cond: Conditioning | None = None, uncond: float = 0.0, size: tuple[int, int] = (8, 8)
) -> Subject:
    look = load_preset("demo", ["tile.size_lat=8", "tile.stride_lat=4", *settings])
    x = torch.zeros(1, 4, *size)
    tiling = latent_tiling(x, look.tile, lambda height, width: height * width)
    any_denoiser = Denoiser(Fake(), Fake())  # type: ignore[arg-type]
    return any_denoiser.subject(x, cond or prompt(1.0), prompt(uncond), look, tiling)


def query(sigma: float = 1.0, sigma_hat: float | None = None, size: tuple[int, int] = (8, 8)) -> Query:
    return Query(torch.zeros(1, 4, *size), sigma, sigma_hat or sigma)


def guidance_of(result: Tensor, sigma: float) -> Tensor:
    """Guidance is linear, so noise of 0 without and 1 with the prompt shows its scale."""
    return -result / snapped(sigma)


def snapped(sigma: float) -> float:
    table = sigma_table()
    return float(table[(table - sigma).abs().argmin()])


# One call of the networks


def test_sigma_is_snapped_to_the_nearest_timestep(denoiser: Denoiser) -> None:
    table = sigma_table()
    between = (0.4 * table[41] + 0.6 * table[40]).item()
    sigmas = torch.tensor([0.0, between, table[500].item(), 14.6146, 99.0])
    assert denoiser.snap(sigmas).tolist() == [0, 40, 500, 999, 999]


def test_the_networks_see_unit_variance_and_the_estimate_is_not_scaled(denoiser: Denoiser, unet: Fake) -> None:
    sigma = sigma_table()[700]
    x = torch.full((1, 4, 2, 2), 5.0)
    found = denoiser(x, sigma[None], x, denoiser.read(prompt(0.25)), torch.ones(1))
    torch.testing.assert_close(unet.calls[0]["x"], x / (sigma**2 + 1).sqrt())
    torch.testing.assert_close(found, x - sigma * 0.25)


# Guidance and control


def test_the_prompt_counts_guidance_times_and_the_negative_prompt_the_rest(denoiser: Denoiser) -> None:
    one = subject("guidance.start=4", "guidance.end=4", uncond=10.0)
    [result] = denoise_together(denoiser, [one], [query(2.0)], batch=4)
    torch.testing.assert_close(result, torch.full_like(result, -snapped(2.0) * (10 + 4 * (1 - 10))))


@pytest.mark.parametrize(("sigma_hat", "scale"), [(14.6146, 1.0), (7.3073, 2.5), (20.668, -0.2426)])
def test_guidance_follows_the_noise_after_churn(sigma_hat: float, scale: float, denoiser: Denoiser) -> None:
    one = subject("guidance.start=1", "guidance.end=4")
    [result] = denoise_together(denoiser, [one], [query(3.0, sigma_hat)], batch=4)
    assert guidance_of(result, sigma_hat).mean().item() == pytest.approx(scale, abs=1e-3)


def test_control_follows_the_noise_before_churn(denoiser: Denoiser, unet: Fake) -> None:
    one = subject("control.start=0", "control.end=1")
    denoise_together(denoiser, [one], [query(7.3073, 10.0)], batch=4)
    assert unet.calls[0]["control_scale"].tolist() == pytest.approx([0.5, 0.5])


def test_every_photo_keeps_its_own_scales_and_noise_level(denoiser: Denoiser, unet: Fake) -> None:
    subjects = [subject(f"guidance.start={g}", f"guidance.end={g}", f"control.start={c}", f"control.end={c}")
                for g, c in ((2, 0.1), (5, 0.2))]  # fmt: skip
    one, other = denoise_together(denoiser, subjects, [query(1.0), query(9.0)], batch=4)
    assert len(unet.calls) == 1
    assert unet.calls[0]["control_scale"].tolist() == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert guidance_of(one, 1.0).mean().item() == pytest.approx(2, rel=1e-5)
    assert guidance_of(other, 9.0).mean().item() == pytest.approx(5, rel=1e-5)


# Windows


@pytest.mark.parametrize(("batch", "rows"), [(1, [2] * 6), (4, [8, 4]), (5, [10, 2]), (100, [8, 4])])
def test_a_call_holds_batch_windows_or_a_smaller_power_of_two_with_and_without_prompt(
    batch: int, rows: list[int], denoiser: Denoiser, unet: Fake
) -> None:
    size = (12, 16)  # two by three windows
    [result] = denoise_together(denoiser, [subject(size=size)], [query(size=size)], batch)
    assert [len(call["x"]) for call in unet.calls] == rows
    assert result.shape == (1, 4, *size)


def test_windows_of_one_shape_share_calls_whatever_photo_they_are_of(denoiser: Denoiser, unet: Fake) -> None:
    sizes = [(8, 8), (8, 4), (8, 12)]
    results = denoise_together(denoiser, [subject(size=s) for s in sizes], [query(size=s) for s in sizes], batch=8)
    assert [tuple(call["x"].shape) for call in unet.calls] == [(4, 4, 8, 8), (2, 4, 8, 8), (2, 4, 8, 4)]
    assert [tuple(result.shape[-2:]) for result in results] == sizes


def test_every_window_can_have_a_prompt_of_its_own(denoiser: Denoiser) -> None:
    one = subject("guidance.start=1", "guidance.end=1", cond=prompt(1.0, 2.0, 3.0), size=(8, 16))
    [result] = denoise_together(denoiser, [one], [query(size=(8, 16))], batch=2)
    found = guidance_of(result, 1.0)[0, 0, 4]
    assert found[[0, 15]].tolist() == pytest.approx([1, 3])
    assert (found.diff() > -1e-6).all()


# Memory


def test_where_memory_ends_the_call_is_halved_until_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    size = (12, 16)
    roomy, small = Fake(), Fake(fits=4)
    many, few = Denoiser(roomy, Fake()), Denoiser(small, Fake())  # type: ignore[arg-type]
    [expected], [found] = (
        denoise_together(denoiser, [subject(size=size)], [query(size=size)], batch=8) for denoiser in (many, few)
    )
    assert torch.equal(found, expected)
    assert [len(call["x"]) for call in small.calls] == [8, 4, 4, 4]
    assert "no memory for 4 windows of 8x8 cells in one call: from now on 2" in caplog.text


def test_what_fits_is_remembered_for_windows_of_that_shape() -> None:
    small = Fake(fits=4)
    denoiser = Denoiser(small, Fake())  # type: ignore[arg-type]

    def rows(*size: int) -> list[int]:
        small.calls.clear()
        denoise_together(denoiser, [subject(size=size)], [query(size=size)], batch=4)  # type: ignore[arg-type]
        return [len(call["x"]) for call in small.calls]

    assert [rows(12, 12), rows(12, 12), rows(4, 12)] == [[8, 4, 4], [4, 4], [4]]


def test_one_window_that_does_not_fit_is_an_error() -> None:
    denoiser = Denoiser(Fake(fits=1), Fake())  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError):
        denoise_together(denoiser, [subject(size=(12, 16))], [query(size=(12, 16))], batch=4)
