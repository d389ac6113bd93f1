"""Presets: what a restored picture looks like. Frozen, strict, without defaults; imports no torch.

A preset is a TOML file with one table per section below. Its `digest` stands in every index row, so two looks never
mix. `derive` is `--set section.key=value`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from supir_core import calibration
from supir_core.errors import PresetError
from supir_core.strict import OFF, did_you_mean, from_text, parse_table, within


@dataclass(frozen=True)
class Size:
    """How large the result is."""

    upscale: float = within(0.05, 16)  # result = photo times this
    min_size_px: int = within(64, 8192)  # the networks see at least this on the short side
    short_side_px: int | None = within(16, 32768)  # instead of upscale: the result's short side


@dataclass(frozen=True)
class Stage1:
    """The cleaned picture that control, pull, colours and captions start from."""

    clean: Literal["denoise", "none"]  # none: the photo itself, for scans without damage


@dataclass(frozen=True)
class Sampling:
    """How the latent is drawn."""

    sampler: Literal["euler", "dpmpp"]  # dpmpp (DPM-Solver++ 2M SDE) is for few-step bases
    num_steps: int = within(1, 1000)
    churn: float = within(0, 100)  # euler: noise added along the way; 0 adds none
    eta: float = within(0, 1)  # dpmpp: the share of the reverse process's noise
    s_noise: float = within(0, 2)  # standard deviation of the added noise
    seed: int = within(0, 2**63 - 1)  # with the photo's id: all randomness


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, linear in sigma: higher follows the prompts more."""

    start: float = within(0, 30)  # at the highest noise
    end: float = within(0, 30)  # at none


@dataclass(frozen=True)
class Pull:
    """Restoration guidance: the pull towards the photo's own latent. A file gives one of the two."""

    tau_r: float | None = within(0, 100)  # LARGER is WEAKER: 0.5 stays close, 4 is freer, off is free
    fidelity: float | None = within(0, 1)  # what tau_r follows from (see `calibration`), LARGER is CLOSER; off: given


@dataclass(frozen=True)
class Control:
    """Strength of the control branch, linear in sigma: 1 is full."""

    start: float = within(0, 2)
    end: float = within(0, 2)


@dataclass(frozen=True)
class Text:
    """What is added to every caption, and what the result should not be."""

    positive: str
    negative: str


@dataclass(frozen=True)
class Tile:
    """Windows of the latent, in cells of 8 pixels; a smaller latent is one window.

    Planned windows are at most this large and overlap by at least size - stride; published ones are this large and lie
    this stride apart.
    """

    mode: Literal["planned", "published"]
    size_lat: int = within(8, 1024)
    stride_lat: int = within(1, 1024)


@dataclass(frozen=True)
class Color:
    """Where the colours come from: the stage-1 picture (wavelet, adain), the photo itself (input), or the sampler."""

    fix: Literal["wavelet", "adain", "input", "none"]


@dataclass(frozen=True)
class Review:
    """Beyond what a result is marked for people to look at; no part of the look.

    The usual limits are for presets that were written before there were any; how they were found: DECISIONS.md.
    """

    de_mean: float = within(0, 100, default=2.5)  # mean CIEDE2000 against the photo
    de_block: float = within(0, 100, default=10.0)  # of the worst block of 16 pixels
    bias: float = within(0, 100, default=1.5)  # mean difference in L*, a* or b*
    shift_px: float = within(0, 100, default=0.5)
    sharpness_min: float = within(0, default=0.05)  # ratio of the result's sharpness to the enlarged photo's
    sharpness_max: float = within(0, default=30.0)
    noise_max: float = within(0, default=5.0)  # ratio of the result's noise to the photo's


@dataclass(frozen=True)
class Preset:
    """Everything that decides what a restored picture looks like."""

    name: str
    purpose: str
    size: Size
    stage1: Stage1
    sampling: Sampling
    guidance: Guidance
    pull: Pull
    control: Control
    text: Text
    tile: Tile
    color: Color
    review: Review

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change when the look does; name, purpose and review do not count."""
        look = {key: value for key, value in asdict(self).items() if key not in ("name", "purpose", "review")}
        look["pull"] = {"tau_r": self.pull.tau_r}
        canonical = json.dumps(look, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def folder(self) -> str:
        """Where its pictures lie: `<name>-<digest>`."""
        return f"{self.name}-{self.digest}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a preset file; `parse` reads them back."""
        return {
            key: {k: OFF if v is None else v for k, v in value.items()} if isinstance(value, dict) else value
            for key, value in asdict(self).items()
        }


def names() -> list[str]:
    """The shipped presets, sorted."""
    return sorted(path.name.removesuffix(".toml") for path in _shipped() if path.name.endswith(".toml"))


def _shipped() -> Iterable[Any]:
    return resources.files("supir_core").joinpath("presets").iterdir()


def shipped_text(name: str) -> str:
    """The file of a shipped preset, with its comments."""
    return resources.files("supir_core").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")


def load_preset(name_or_file: str, settings: Iterable[str] = ()) -> Preset:
    """A shipped preset by name or one from a TOML file, with `section.key=value` changes applied.

    Raises:
        PresetError: no such preset, an unknown key, or a value that does not fit.
    """
    if name_or_file.endswith(".toml"):
        path = Path(name_or_file)
        if not path.is_file():
            raise PresetError(f"no preset file {path}", hint="a shipped preset is named without .toml")
        text, name = path.read_text(encoding="utf-8"), path.stem
    elif name_or_file in names():
        text, name = shipped_text(name_or_file), name_or_file
    else:
        raise PresetError(
            f"no preset {name_or_file!r}{did_you_mean(name_or_file, names())}",
            hint=f"shipped presets: {', '.join(names())}; or give a file ending in .toml",
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PresetError(f"preset {name_or_file} is not TOML: {error}") from error
    pull = values.get("pull")
    if isinstance(pull, dict) and {"tau_r", "fidelity"} <= pull.keys():
        raise PresetError(f"preset {name_or_file} has pull.tau_r and pull.fidelity", hint="one follows from the other")
    return derive(parse({"name": name, **values}), settings)


def parse(values: Mapping[str, Any]) -> Preset:
    """A preset from nested plain values; a tau_r that is not there follows from the fidelity.

    All else must be given, but for the table `review`, which presets and runs of earlier versions lack.

    Raises:
        PresetError: a key is missing or unknown, or a value does not fit.
    """
    pull = values.get("pull")
    follows = isinstance(pull, Mapping) and "fidelity" in pull and "tau_r" not in pull
    if isinstance(pull, Mapping) and {"tau_r", "fidelity"} & pull.keys():
        values = {**values, "pull": {"tau_r": OFF, "fidelity": OFF, **pull}}
    preset: Preset = parse_table(Preset, {"review": asdict(Review()), **values}, "")
    _validate(preset)
    if follows and preset.pull.fidelity is not None:
        tau_r = calibration.shipped().tau_r(preset.pull.fidelity, preset.sampling)
        preset = replace(preset, pull=replace(preset.pull, tau_r=tau_r))
    return preset


def derive(preset: Preset, settings: Iterable[str]) -> Preset:
    """The preset with `section.key=value` changes; its digest differs where the look does."""
    values = preset.to_dict()
    for setting in settings:
        path, equals, raw = setting.partition("=")
        section, dot, key = path.strip().partition(".")
        if not equals or not dot:
            raise PresetError(f"--set {setting!r} is not section.key=value", hint="for example --set pull.tau_r=1.5")
        if not isinstance(values.get(section), dict) or key not in values[section]:
            known = [f"{s}.{k}" for s, table in values.items() if isinstance(table, dict) for k in table]
            raise PresetError(f"unknown key {path}{did_you_mean(path, known)}", hint="see: supir presets show NAME")
        values[section][key] = from_text(raw.strip())
        if (section, key) == ("pull", "tau_r"):
            values["pull"]["fidelity"] = OFF
    if values["pull"]["fidelity"] != OFF:
        del values["pull"]["tau_r"]  # it follows anew: the schedule or the fidelity may have changed
    return parse(values)


def differences(looks: Sequence[Preset]) -> dict[str, list[Any]]:
    """What sets looks apart: the values of every key (`pull.tau_r`) in which they are not all the same."""
    flat = [
        {f"{section}.{key}": value for section, table in look.to_dict().items() if isinstance(table, dict)
         for key, value in table.items()}
        for look in looks
    ]  # fmt: skip
    return {key: [one[key] for one in flat] for key in flat[0] if len({str(one[key]) for one in flat}) > 1}


def sweep_values(sweep: str) -> list[str]:
    """The settings of a sweep: `pull.tau_r=1,off` -> `pull.tau_r=1` and `pull.tau_r=off`.

    Raises:
        PresetError: it is not of this form.
    """
    path, _, values = sweep.partition("=")
    settings = [f"{path}={value.strip()}" for value in values.split(",")]
    if not values or "" in (value.strip() for value in values.split(",")):
        raise PresetError(
            f"--sweep {sweep!r} is not section.key=value,value,...", hint="for example --sweep pull.tau_r=0.5,1,2,4,off"
        )
    return settings


def _validate(preset: Preset) -> None:
    """What no single field can say."""
    if preset.tile.stride_lat > preset.tile.size_lat:
        raise PresetError(
            f"tile.stride_lat ({preset.tile.stride_lat}) exceeds tile.size_lat ({preset.tile.size_lat})",
            hint="windows must touch: a stride of half the size is usual",
        )
    if not preset.name or not all(c.isalnum() or c in "._-" for c in preset.name) or preset.name[0] == ".":
        raise PresetError(f"preset name {preset.name!r} may hold only letters, digits, '-', '_' and '.'")
