"""`supir weights`: what files of weights are, and packing them into one model."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from jobs import exits
from supir_core import models, packing
from supir_core.checkpoint import sha256_of, some
from supir_core.errors import InputError, SupirError, WeightsError
from supir_core.published import open_source
from supir_core.roles import Report, check_values, judge
from supir_core.weights import check_model

SAY_AFTER_S = 2.0
SAY_EVERY_S = 5.0


def check(paths: Sequence[str], read: bool, as_json: bool) -> int:
    """Say what each file is and what is wrong with it; the exit code.

    Args:
        paths: files, folders in diffusers' layout, and model directories.
        read: whether to read the files in full, for their hashes and for NaN, or their headers only.
        as_json: one JSON object on stdout instead of text.
    """
    facts, errors = [], []
    for path in map(Path, paths):
        home = path if path.is_dir() else path.parent
        found, wrong = _check_directory(path, read) if _is_model(path) else _check_source(path, home, read)
        facts += found
        errors += wrong
        if not as_json:
            for fact in found:
                sys.stdout.write(_text(fact, read))
        sys.stdout.flush()
        for error in wrong:
            exits.show(error)
    if as_json:
        sys.stdout.write(json.dumps({"ok": not errors, "files": facts}, ensure_ascii=False) + "\n")
    return exits.WRONG_INPUT if errors else exits.DONE


def _is_model(path: Path) -> bool:
    """Whether a path is a model directory, rather than one source."""
    try:
        return path.is_dir() and models.model_sources(str(path)) != [path]
    except WeightsError:
        return True


def _check_directory(directory: Path, read: bool) -> tuple[list[dict[str, Any]], list[SupirError]]:
    """Each source of a model directory; then whether they make a model together."""
    facts: list[dict[str, Any]] = []
    errors: list[SupirError] = []
    try:
        recorded = {str(file): digest for file, digest in models.packed_files(str(directory)).items()}
        sources = models.model_sources(str(directory))
    except WeightsError as error:
        return [{"file": str(directory), "role": "model directory", "errors": [_error_facts(error)]}], [error]
    for path in sources:
        found, wrong = _check_source(path, directory, read)
        if found[0].get("sha256") and recorded.get(str(path), found[0]["sha256"]) != found[0]["sha256"]:
            changed = packing.changed(path)
            found[0]["errors"].append(_error_facts(changed))
            wrong.append(changed)
        facts += found
        errors += wrong
    if not errors:
        kind = "packed model" if recorded else "model directory"
        fact: dict[str, Any] = {"file": str(directory), "role": kind, "digest": None, "errors": []}
        try:
            check_model(str(directory))
            fact["digest"] = models.model_digest(str(directory)) if recorded else None
        except WeightsError as error:
            errors.append(error)
            fact["errors"].append(_error_facts(error))
        facts.append(fact)
    return facts, errors


def _check_source(path: Path, home: Path, read: bool) -> tuple[list[dict[str, Any]], list[SupirError]]:
    """What one source is, as JSON holds it, and what is wrong with it; `home` may hold a model.json."""
    fact: dict[str, Any] = {"file": str(path)}
    errors: list[SupirError] = []
    try:
        dims = models.read_dims(str(home))
        report = judge(open_source(path, dims), dims)
        fact.update(_facts(report))
        errors += report.errors()
        files = [file.path for file in report.source.files]
        if read:
            size = sum(file.stat().st_size for file in files)
            with ByteProgress(f"reading {path.name}", 2 * size) as progress:
                hashes = {str(file): sha256_of(file, progress.add) for file in files}
                fact["sha256"] = hashes if path.is_dir() else hashes[str(path)]
                check_values(report, progress.add)
    except (WeightsError, OSError) as error:
        errors.append(error if isinstance(error, WeightsError) else _unreadable(path, error))
    fact["errors"] = [_error_facts(error) for error in errors]
    return [fact], errors


def _unreadable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{path} cannot be read: {error}", hint="is the disk well?", code="weights-damaged")


def _facts(report: Report) -> dict[str, Any]:
    return {
        "role": report.title,
        "misnamed": report.misnamed,
        "layout": report.source.layout,
        "format": "+".join(sorted({file.kind for file in report.source.files})),
        "bytes": sum(file.path.stat().st_size for file in report.source.files),
        "dtypes": report.dtypes,
        "tensors": len(report.source.entries),
        "components": {part: {"found": found, "needed": needed} for part, (found, needed) in report.parts.items()},
        "missing": report.missing,
        "unexpected": report.unexpected,
        "wrong_shape": [{"key": key, "is": is_, "needed": needed} for key, is_, needed in report.misshapen],
        "unused": report.unused,
        "sha256": None,
    }


def _error_facts(error: SupirError) -> dict[str, str]:
    return {"code": error.code, "message": str(error), "hint": error.hint}


def _text(fact: dict[str, Any], read: bool) -> str:
    """One source as lines of text."""
    verdict = "" if fact["errors"] else "  ok" if read else "  ok so far (values not read)"
    lines = [f"{fact['file']}: {fact.get('role', 'not readable')}{verdict}"]
    if fact.get("digest"):
        lines.append(f"  digest      {fact['digest']}")
    if "tensors" in fact:
        dtypes = ", ".join(f"{dtype} ({count})" for dtype, count in fact["dtypes"].items())
        parts = ", ".join(f"{part} {n['found']}/{n['needed']}" for part, n in fact["components"].items())
        if fact["misnamed"]:
            lines.append(
                f"  note        its name says {fact['misnamed']}, but its tensors are another's: this is what counts"
            )
        lines += [
            f"  file        {fact['bytes'] / 1e9:.3f} GB, {fact['format']}, {fact['layout']} names",
            f"  tensors     {fact['tensors']}: {dtypes}",
            f"  components  {parts or '-'}",
            f"  missing     {_listed(fact['missing'])}",
            f"  unexpected  {_listed(fact['unexpected'])}",
            f"  unused      {_listed(fact['unused'])}",
        ]
        hashes = fact["sha256"] if isinstance(fact["sha256"], dict) else {"": fact["sha256"]}
        lines += [f"  sha256      {digest or 'not computed'}  {name}".rstrip() for name, digest in hashes.items()]
    return "\n".join(lines) + "\n"


def _listed(keys: list[str]) -> str:
    return f"{len(keys)}: {some(keys)}" if keys else "none"


def pack(sdxl: str, supir: str, loras: Sequence[str], dtype: str, out: str, as_json: bool) -> None:
    """Write a packed model and say what is in it."""
    start = time.monotonic()
    plan = packing.plan_packing(Path(sdxl), Path(supir), [_lora(text) for text in loras], dtype)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if plan.part_dtype("vae") != packing.DTYPES[dtype]:
        console.print("note: the VAE is stored as bf16, because fp16 overflows in it", style="yellow")
    with ByteProgress(f"packing {Path(out).name}", plan.total_bytes) as progress:
        config = packing.pack(plan, Path(out), progress.add)
    digest = models.model_digest(out)
    if as_json:
        facts = {"model": out, "digest": digest, "seconds": round(time.monotonic() - start, 2), **config["packed"]}
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return
    packed = config["packed"]
    lines = [f"{out}: packed model, digest {digest}"]
    lines += [f"  from        {origin['name']}: {origin['role']}" for origin in packed["sources"].values()]
    lines += [f"  LoRA        {lora['name']} x {lora['scale']:g}" for lora in packed["loras"]]
    lines += [f"  {file['bytes'] / 1e9:8.3f} GB  {name}" for name, file in packed["files"].items()]
    lines += [f"use it with: --model {out}"]
    sys.stdout.write("\n".join(lines) + "\n")


def _lora(text: str) -> tuple[Path, float]:
    """A LoRA's path and scale from FILE or FILE:SCALE."""
    path, _, scale = text.rpartition(":")
    try:
        value = float(scale) if path else 1.0
    except ValueError:
        return Path(text), 1.0  # a colon in the name
    if not math.isfinite(value):
        raise InputError(f"--lora {text}: the scale is not a number", hint="as in --lora style.safetensors:0.8")
    return Path(path or text), value


class ByteProgress:
    """How far a long reading or writing is, on stderr; says nothing of what takes less than two seconds.

    Args:
        label: what is done.
        total: bytes.
    """

    def __init__(self, label: str, total: int):
        self._label, self._total, self._done = label, total, 0
        self._start = self._said = time.monotonic()
        columns = (TextColumn(label), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(label, total=total)
        self._shown = False

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()

    def add(self, count: int) -> None:
        """Count bytes."""
        self._done += count
        now = time.monotonic()
        if now - self._start < SAY_AFTER_S:
            return
        if sys.stderr.isatty():
            if not self._shown:
                self._bar.start()
                self._shown = True
            self._bar.update(self._task, completed=self._done)
        elif now - self._said >= SAY_EVERY_S or self._said == self._start:
            self._said = now
            sys.stderr.write(f"{self._label}: {self._done / 1e9:.1f} of {self._total / 1e9:.1f} GB\n")
            sys.stderr.flush()
