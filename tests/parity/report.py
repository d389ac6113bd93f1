"""What a comparison found: one line per tensor group, and all of it as one object."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor

from tests.parity.golden import GoldenFile
from tests.parity.limits import Limit


@dataclass(frozen=True)
class Line:
    """The verdict on one group of tensors."""

    file: str
    case: str
    group: str
    status: Literal["ok", "FAIL", "skipped", "differs"]
    note: str = ""
    tensors: int = 0  # how many were compared
    error: float = math.nan  # of the worst, in the limit's unit
    limit: float = math.nan

    def __str__(self) -> str:
        figures = f"{self.error:8.1e} / {self.limit:<7g}" if self.tensors else ""
        return f"{self.status:8}{self.file:17}{self.case:24}{self.group:18}{figures:20}{self.note}".rstrip()


@dataclass
class Report:
    """The lines of one golden directory.

    Args:
        slack: every limit is multiplied by it.
        on_line: called with each line as it comes.
    """

    slack: float = 1.0
    on_line: Callable[[Line], None] = lambda line: None
    lines: list[Line] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # known files that the directory lacks
    unchecked: dict[str, list[str]] = field(default_factory=dict)  # tensors that no check looked at, by file

    @property
    def ok(self) -> bool:
        """Nothing failed."""
        return not self.failures

    @property
    def failures(self) -> list[Line]:
        """The lines that failed."""
        return [line for line in self.lines if line.status == "FAIL"]

    def add(self, line: Line) -> None:
        """One more line."""
        self.lines.append(line)
        self.on_line(line)

    def fail(self, file: str, case: str, group: str, note: str) -> None:
        """Something that cannot be compared."""
        self.add(Line(file, case, group, "FAIL", note))

    def skip(self, file: GoldenFile, case: str, names: list[str], reason: str) -> None:
        """Tensors that are left out on purpose."""
        file.look_at(names)
        self.add(Line(file.name, case, "", "skipped", f"{len(names)} tensors: {reason}"))

    def differ(self, file: GoldenFile, case: str, name: str, ours: Tensor, reason: str) -> None:
        """A tensor that is made otherwise than the golden one on purpose: its PSNR against ours, on our range."""
        note = f"{psnr(file[name], ours):.1f} dB: {reason}"
        self.add(Line(file.name, case, name.removeprefix(f"{case}."), "differs", note))

    def group(self, file: GoldenFile, case: str, group: str, limit: Limit) -> Group:
        """A context in which tensors are compared; it adds one line when it ends, also if it ends in an error."""
        return Group(self, file, case, group, limit.times(self.slack))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = sorted({line.file for line in self.lines})
        return {
            "ok": self.ok,
            "checked": {f: sum(line.tensors for line in self.lines if line.file == f) for f in files},
            "worst_of_limit": {f: _share(line for line in self.lines if line.file == f) for f in files},
            "failed": [
                {
                    "file": line.file,
                    "case": line.case,
                    "group": line.group,
                    "error": line.error if math.isfinite(line.error) else None,
                    "limit": line.limit if math.isfinite(line.limit) else None,
                    "note": line.note,
                }
                for line in self.failures
            ],
            "skipped": [
                {"file": line.file, "case": line.case, "reason": line.note}
                for line in self.lines
                if line.status == "skipped"
            ],
            "differing": [
                {"file": line.file, "case": line.case, "group": line.group, "note": line.note}
                for line in self.lines
                if line.status == "differs"
            ],
            "absent": self.absent,
            "unchecked": self.unchecked,
        }


def psnr(found: Tensor, expected: Tensor, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the range of `expected` if not given."""
    span = float(expected.max() - expected.min()) if peak is None else peak
    error = (found.double() - expected.double()).square().mean()
    return float(10 * torch.log10(span**2 / error))


def _share(lines: Any) -> float | None:
    """The worst error over its limit, of the lines that have both."""
    shares = [line.error / line.limit for line in lines if line.limit > 0 and math.isfinite(line.error)]
    return round(max(shares), 4) if shares else None


class Group:
    """Comparisons that share a limit; see `Report.group`."""

    def __init__(self, report: Report, file: GoldenFile, case: str, group: str, limit: Limit):
        self._report, self._file, self._limit = report, file, limit
        self._head = (file.name, case, group)
        self._errors: dict[str, float] = {}
        self._shapes: list[str] = []  # what is wrong with them

    def compare(self, name: str, ours: Tensor) -> None:
        """Compare a result with the golden tensor of that name."""
        golden = self._file[name]
        if ours.shape != golden.shape:
            self._shapes.append(f"{name} is {tuple(ours.shape)}, golden is {tuple(golden.shape)}")
            self.record(name, math.inf)
        else:
            self.record(name, self._limit.measure(ours, golden) if golden.numel() else 0.0)

    def record(self, name: str, error: float) -> None:
        """An error that was measured outside."""
        self._errors[name] = error

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if isinstance(error, Exception):  # one group that cannot be computed must not hide the others
            self._report.fail(*self._head, f"{type(error).__name__}: {_first_line(error)}")
            return True
        if error is None and self._errors:
            self._report.add(self._line())
        return False

    def _line(self) -> Line:
        # NaN sorts as the worst of all.
        worst = max(self._errors, key=lambda name: math.inf if math.isnan(self._errors[name]) else self._errors[name])
        bad = [name for name, error in self._errors.items() if not error <= self._limit.value]
        count = f"{len(self._errors)} tensors, worst {worst}" if len(self._errors) > 1 else worst
        return Line(
            *self._head,
            "FAIL" if bad else "ok",
            "; ".join([count, *self._shapes, f"{len(bad)} beyond the limit"]) if bad else count,
            len(self._errors),
            self._errors[worst],
            self._limit.value,
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].strip("'\"")
