"""Tables of plain values -> frozen dataclasses, strictly: no unknown key, no missing one, no value out of its range."""

from __future__ import annotations

import difflib
import math
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from typing import Any, Literal

from supir_core.errors import PresetError

OFF = "off"  # how None is written


def within(low: float = -math.inf, high: float = math.inf, **default: Any) -> Any:
    """A field whose number has to lie in [low, high]."""
    return field(metadata={"low": low, "high": high}, **default)


def from_text(raw: str) -> Any:
    """A value as TOML has it, or a bare word."""
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw  # a bare word such as `off` or `adain`


def parse_table(kind: Any, values: Any, path: str) -> Any:
    """A dataclass from a table.

    Args:
        kind: the dataclass; its fields may be dataclasses, literals, numbers, texts, truths, and None beside a number.
        values: by the names of its fields.
        path: of the table, with a dot at the end, for messages.

    Raises:
        PresetError: a key is missing or unknown, or a value does not fit.
    """
    if not isinstance(values, Mapping):
        raise PresetError(f"{path.rstrip('.') or 'the preset'} must be a table of keys")
    hints = typing.get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    for key in values:
        if key not in known:
            full = f"{path}{key}"
            raise PresetError(f"unknown key {full}{did_you_mean(full, [path + k for k in known])}")
    missing = [path + f.name for f in fields(kind) if f.name not in values]
    if missing:
        raise PresetError(
            f"missing key {', '.join(missing)}",
            hint="every key must be given; start from: supir presets show NAME > my.toml",
        )
    return kind(**{f.name: _value(hints[f.name], f.metadata, values[f.name], path + f.name) for f in fields(kind)})


def _value(hint: Any, bounds: Mapping[str, float], value: Any, path: str) -> Any:
    if hasattr(hint, "__dataclass_fields__"):
        return parse_table(hint, value, f"{path}.")
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


def _truth(value: Any, bounds: Mapping[str, float], path: str) -> bool:
    if not isinstance(value, bool):
        raise PresetError(f"{path} must be true or false, not {value!r}")
    return value


_SCALARS: dict[Any, Callable[[Any, Mapping[str, float], str], Any]] = {
    bool: _truth,
    float: _number,
    int: _integer,
    str: _string,
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]}?" if close else ""
