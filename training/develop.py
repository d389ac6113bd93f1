"""Linear light -> the finished photo: exposure, contrast, vignette, sometimes grey, sepia or printed."""

from __future__ import annotations

import numpy as np

from training.palettes import luminance, to_srgb
from training.studio import Studio


def develop(studio: Studio) -> tuple[np.ndarray, list[str]]:
    """(S, S, 3) uint8 sRGB, and words for what is special about it."""
    rng, light = studio.rng, studio.canvas.light
    said: list[str] = []
    if rng.random() < 0.4:  # light falls off, to one side or to the corners
        light = light * _falloff(rng, studio.size)[..., None]
    if rng.random() < 0.3:  # shade from clouds or trees
        light = light * np.exp(studio.soft * np.float32(rng.uniform(0.05, 0.35)))[..., None]
    bright = luminance(light)
    log = np.log(bright[::4, ::4] + 1e-3)
    gain, gamma = np.exp(rng.normal(np.log(0.17), 0.45) - log.mean()), np.exp(rng.normal(0.05, 0.18))
    # a print holds some five stops: wide scenes are compressed, dull ones left mostly as they are
    gamma *= np.clip(1.3 / (log.std() + 0.25), 0.75, 1.6)
    # contrast is that of brightness alone, or colours would become more vivid with it
    light = (
        light
        * (np.float32(gain) * np.maximum(bright * np.float32(gain / 0.17), 1e-4) ** np.float32(gamma - 1))[..., None]
    )
    shown = to_srgb(light / (1 + light**4) ** np.float32(0.25))  # a shoulder instead of clipped lights
    black = max(0.0, rng.normal(0, 0.02))  # paper and haze
    shown = black + shown * (1 - black - max(0.0, rng.normal(0, 0.02)))
    kind = rng.random()
    if kind < 0.1:
        shown, said = _grey(rng, shown), ["black and white"]
    elif kind < 0.15:
        tone = np.array([1.0, rng.uniform(0.86, 0.95), rng.uniform(0.65, 0.85)], np.float32)
        shown, said = _grey(rng, shown) ** (1 / tone), ["sepia"]
    if rng.random() < 0.025:
        shown, said = _halftone(rng, shown), [*said, "halftone print"]
    return (np.clip(shown, 0, 1) * 255 + 0.5).astype(np.uint8), said


def _falloff(rng: np.random.Generator, size: int) -> np.ndarray:
    """(S, S) in (0, 1]."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    if rng.random() < 0.5:
        return 1 / (1 + np.float32(rng.uniform(0.1, 0.5)) * (x * x + y * y)) ** 2
    angle = rng.uniform(0, 2 * np.pi)
    return np.exp(np.float32(rng.uniform(0.1, 0.7)) * (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))))


def _grey(rng: np.random.Generator, shown: np.ndarray) -> np.ndarray:
    """Three equal channels, weighted as some film sees colours."""
    weight = rng.dirichlet((3, 6, 1.5)).astype(np.float32)
    return np.repeat((shown @ weight)[..., None], 3, axis=2)


def _halftone(rng: np.random.Generator, shown: np.ndarray) -> np.ndarray:
    """Printed as dots of growing size, each channel's screen at its own angle (for grey ones, at one)."""
    size = shown.shape[0]
    period = rng.uniform(2.5, 5.0)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    grey = bool(np.ptp(shown, axis=2).max() < 0.01)
    printed = np.empty_like(shown)
    for channel, angle in enumerate(np.deg2rad([15, 75, 45] if not grey else [45, 45, 45])):
        u = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) * np.float32(np.pi / period)
        v = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) * np.float32(np.pi / period)
        screen = np.cos(u) * np.cos(v) * 0.5 + 0.5  # [0, 1]; its steepness sets how soft a dot's edge has to be
        printed[..., channel] = np.clip((shown[..., channel] - screen) * np.float32(period / 2) + 0.5, 0, 1)
    ink = np.float32(rng.uniform(0.02, 0.12))
    mix = np.float32(rng.uniform(0.15, 0.7))
    return shown * (1 - mix) + (ink + printed * (0.97 - ink)) * mix
