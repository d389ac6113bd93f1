"""Presets: what a restored picture looks like. Frozen, strict, without defaults; imports no torch.

A preset is a TOML file with one table per section below. Its `digest` stands in every index row, so two looks never
mix. `derive` is `--set section.key=value`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from supir_core.errors import PresetError

OFF = "off"  # how a preset file writes None


def _check(low: float = -math.inf, high: float = math.inf) -> Any:
    """A field whose number has to lie in [low, high]."""
    return field(metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Size:
    """How large the result is."""

    upscale: float = _check(0.05, 16)  # result = photo times this
    min_size_px: int = _check(64, 8192)  # the networks see at least this on the short side
    short_side_px: int | None = _check(16, 32768)  # instead of upscale: the result's short side


@dataclass(frozen=True)
class Stage1:
    """The cleaned picture that control, pull, colours and captions start from."""

    clean: Literal["denoise", "none"]  # none: the photo itself, for scans without damage


@dataclass(frozen=True)
class Sampling:
    """How the latent is drawn."""

    sampler: Literal["euler", "dpmpp"]  # dpmpp (DPM-Solver++ 2M SDE) is for few-step bases
    num_steps: int = _check(1, 1000)
    churn: float = _check(0, 100)  # euler: noise added along the way; 0 adds none
    eta: float = _check(0, 1)  # dpmpp: the share of the reverse process's noise
    s_noise: float = _check(0, 2)  # standard deviation of the added noise
    seed: int = _check(0, 2**63 - 1)  # with the photo's id: all randomness


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, linear in sigma: higher follows the prompts more."""

    start: float = _check(0, 30)  # at the highest noise
    end: float = _check(0, 30)  # at none


@dataclass(frozen=True)
class Pull:
    """Restoration guidance: the pull towards the photo's own latent."""

    tau_r: float | None = _check(0, 100)  # LARGER is WEAKER: 0.5 stays close, 4 is freer, off is free


@dataclass(frozen=True)
class Control:
    """Strength of the control branch, linear in sigma: 1 is full."""

    start: float = _check(0, 2)
    end: float = _check(0, 2)


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
    size_lat: int = _check(8, 1024)
    stride_lat: int = _check(1, 1024)


@dataclass(frozen=True)
class Color:
    """Where the colours come from: the stage-1 picture, or the sampler."""

    fix: Literal["wavelet", "adain", "none"]


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

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change when the look does; name and purpose do not count."""
        look = {key: value for key, value in asdict(self).items() if key not in ("name", "purpose")}
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
            f"no preset {name_or_file!r}{_did_you_mean(name_or_file, names())}",
            hint=f"shipped presets: {', '.join(names())}; or give a file ending in .toml",
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PresetError(f"preset {name_or_file} is not TOML: {error}") from error
    return derive(parse({"name": name, **values}), settings)


def parse(values: Mapping[str, Any]) -> Preset:
    """A preset from nested plain values.

    Raises:
        PresetError: a key is missing or unknown, or a value does not fit.
    """
    preset: Preset = _parse(Preset, values, "")
    _validate(preset)
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
            raise PresetError(f"unknown key {path}{_did_you_mean(path, known)}", hint="see: supir presets show NAME")
        values[section][key] = _from_text(raw.strip())
    return parse(values)


def _from_text(raw: str) -> Any:
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw  # a bare word such as `off` or `adain`


def _parse(kind: Any, values: Any, path: str) -> Any:
    """Build a dataclass from a table, strictly."""
    if not isinstance(values, Mapping):
        raise PresetError(f"{path.rstrip('.') or 'the preset'} must be a table of keys")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    for key in values:
        if key not in known:
            full = f"{path}{key}"
            raise PresetError(f"unknown key {full}{_did_you_mean(full, [path + k for k in known])}")
    missing = [path + f.name for f in fields(kind) if f.name not in values]
    if missing:
        raise PresetError(
            f"missing key {', '.join(missing)}",
            hint="every key must be given; start from: supir presets show NAME > my.toml",
        )
    return kind(**{f.name: _value(hints[f.name], f.metadata, values[f.name], path + f.name) for f in fields(kind)})


def _value(hint: Any, bounds: Mapping[str, float], value: Any, path: str) -> Any:
    if hasattr(hint, "__dataclass_fields__"):
        return _parse(hint, value, f"{path}.")
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if value not in options:
            raise PresetError(f"{path} must be one of {', '.join(map(str, options))}, not {value!r}")
        return value
    if type(None) in options:
        if value == OFF:
            return None
        if isinstance(value, str):
            raise PresetError(f"{path} must be a number or {OFF}, not {value!r}")
        hint = options[0]
    return _SCALARS[hint](value, bounds, path)


def _number(value: Any, bounds: Mapping[str, float], path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PresetError(f"{path} must be a number, not {value!r}")
    if not bounds["low"] <= value <= bounds["high"]:
        raise PresetError(f"{path} must lie between {bounds['low']:g} and {bounds['high']:g}, not {value:g}")
    return float(value)


def _integer(value: Any, bounds: Mapping[str, float], path: str) -> int:
    number = _number(value, bounds, path)
    if number != value or not isinstance(value, int):
        raise PresetError(f"{path} must be a whole number, not {value!r}")
    return value


def _string(value: Any, bounds: Mapping[str, float], path: str) -> str:
    if not isinstance(value, str):
        raise PresetError(f"{path} must be text, not {value!r}")
    return value


_SCALARS: dict[Any, Callable[[Any, Mapping[str, float], str], Any]] = {float: _number, int: _integer, str: _string}


def _validate(preset: Preset) -> None:
    """What no single field can say."""
    if preset.tile.stride_lat > preset.tile.size_lat:
        raise PresetError(
            f"tile.stride_lat ({preset.tile.stride_lat}) exceeds tile.size_lat ({preset.tile.size_lat})",
            hint="windows must touch: a stride of half the size is usual",
        )
    if not preset.name or not all(c.isalnum() or c in "._-" for c in preset.name) or preset.name[0] == ".":
        raise PresetError(f"preset name {preset.name!r} may hold only letters, digits, '-', '_' and '.'")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]}?" if close else ""
