"""A golden directory: its settings, its tensors, and which of them a check has looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor


class GoldenFile:
    """One `X.safetensors` with the `X.json` beside it; settings that it lacks come from `config.json`.

    Args:
        directory: where the files lie.
        name: `X`, the component.
    """

    def __init__(self, directory: Path, name: str):
        self.name = name
        self.tensors: dict[str, Tensor] = load_file(directory / f"{name}.safetensors")
        self._own = read_json(directory / f"{name}.json")
        self._shared = read_json(directory / "config.json")
        self._unseen = set(self.tensors)

    def setting(self, own: str, shared: str = "") -> Any:
        """The value of `own` in X.json, else of `shared` (or `own`) in config.json."""
        if own in self._own:
            return self._own[own]
        if (shared or own) in self._shared:
            return self._shared[shared or own]
        raise KeyError(f"setting {own!r} stands neither in {self.name}.json nor in config.json")

    def optional(self, own: str, default: Any) -> Any:
        """The value of `own` in X.json, or the default."""
        return self._own.get(own, default)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise KeyError(f"{self.name}.safetensors lacks {name}")
        self._unseen.discard(name)
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def look_at(self, names: Iterable[str]) -> None:
        """Count tensors as looked at: inputs that may have no output here, and what is skipped by name."""
        self._unseen.difference_update(names)

    def starting_with(self, prefix: str) -> list[str]:
        """The names of the tensors that start so, in natural order."""
        return sorted((name for name in self.tensors if name.startswith(prefix)), key=natural)

    def cases(self, what: str) -> dict[str, list[str]]:
        """Case -> what it holds, for the tensors named `<case>.<what>`, `what` a regular expression."""
        found: dict[str, list[str]] = {}
        for name in self._in_order():
            if match := re.fullmatch(rf"(.+?)\.({what})", name):
                found.setdefault(match[1], []).append(match[2])
        return found

    def _in_order(self) -> list[str]:
        """Names as X.json lists them: settings that come as a list follow that order."""
        listed = [name for name in self._own.get("tensors", ()) if name in self.tensors]
        return listed + sorted(set(self.tensors) - set(listed), key=natural)

    @property
    def unseen(self) -> list[str]:
        """Tensors that no check has looked at."""
        return sorted(self._unseen, key=natural)

    @property
    def lost(self) -> list[str]:
        """Tensors that X.json lists under `tensors` and X.safetensors lacks."""
        return sorted(set(self._own.get("tensors", ())) - set(self.tensors), key=natural)


def natural(name: str) -> list[Any]:
    """A sort key that puts `control.10` after `control.9`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file."""
    if not path.is_file():
        return {}
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
