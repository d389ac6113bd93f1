"""`supir plan`: what a run would do and take; nothing is written."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from jobs.looks import described, look_facts
from jobs.progress import counting
from jobs.run import Request, build_settings, check_captioner, left_to_others
from pipeline import estimate
from pipeline.estimate import EDGES_MP, Format, Rate, Survey
from pipeline.manifest import read_manifest
from pipeline.plan import make_plan, of_shard
from pipeline.settings import RunSettings
from supir_core import models
from supir_core.errors import InputError

ALL = "all"
BAR = 40  # characters


def plan(request: Request, sample: str, megapixels_per_s: float | None, as_json: bool) -> None:
    """Print what a run with these options would do.

    Raises:
        SupirError: whatever would end the run before it begins.
    """
    count = _sample_size(sample)
    settings = build_settings(request)
    if not settings.allow_download:  # else what is missing will be fetched, by the run
        check_captioner(settings, allow_download=False, ask=False)
    with Console(stderr=True).status("reading the input and the index"):
        manifest = read_manifest(settings.input, settings.limit, settings.preset_names, settings.only)
        made = make_plan(manifest, settings)
        manifest = of_shard(manifest, settings.shard)
        left = estimate.formats(made.todo)
        by_name = [kind for kind in left if kind.refusal]
        chosen = estimate.sample(made.todo, [kind.extension for kind in by_name], count)
        rate = Rate(megapixels_per_s, 0, True) if megapixels_per_s else estimate.measured_rate(settings)
    with counting("headers read") as on_read:
        survey = estimate.survey(chosen, settings, on_read)
    facts = {
        "input": settings.input,
        "photos": manifest.num_photos,
        "ignored": manifest.ignored,
        "other_presets": manifest.others,
        "done_before": made.done_before,
        "caption_sources": settings.captioning.sources,
        "captions_lost": made.lost_captions,
        "failed_before": made.failed_before,
        "todo": made.todo.num_rows,
        "pictures": made.pictures,
        "formats": _formats(estimate.formats(manifest.photos), left),
        **_sampled(survey, by_name, made.todo.num_rows),
        **_time(survey, made.todo.num_rows - sum(kind.photos for kind in by_name), rate, settings),
        "preset": settings.preset.name,
        "preset_digest": settings.preset.digest,
        "looks": [look_facts(preset) for preset in settings.presets],
        "notice": models.notice(settings.model),
    }
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(facts, settings)) + "\n")


def _sample_size(text: str) -> int | None:
    if text == ALL:
        return None
    if not text.isdecimal() or not int(text):
        raise InputError(f"--sample {text!r} is neither a number of photos nor {ALL!r}", hint="--sample 1000")
    return int(text)


def _formats(photos: list[Format], left: list[Format]) -> dict[str, dict[str, int | None]]:
    todo = {kind.extension: kind.photos for kind in left}
    return {
        kind.extension: {"photos": kind.photos, "todo": todo.get(kind.extension, 0), "bytes": kind.bytes}
        for kind in photos
    }


def _sampled(survey: Survey, by_name: list[Format], todo: int) -> dict[str, Any]:
    """What the headers say, and who is refused: by the name all are known, by the header those of the sample."""
    readable = todo - sum(kind.photos for kind in by_name)
    refused: list[dict[str, Any]] = [
        {"code": kind.refusal.code, "photos": kind.photos, "sampled": None, "example": kind.example,
         "message": str(kind.refusal)}
        for kind in by_name if kind.refusal
    ]  # fmt: skip
    for code, found in survey.refused.items():
        about = round(found.photos / survey.photos * readable)
        refused.append(
            {"code": code, "photos": about, "sampled": found.photos, "example": found.example,
             "message": str(found.error)}
        )  # fmt: skip
    edges = [0, *EDGES_MP, None]
    return {
        "sample": {"photos": survey.photos, "of": readable},
        "megapixels": [
            {"from": low, "to": high, "photos": photos}
            for low, high, photos in zip(edges[:-1], edges[1:], survey.megapixels, strict=True)
        ],
        "refused": refused,
    }


def _time(survey: Survey, readable: int, rate: Rate | None, settings: RunSettings) -> dict[str, Any]:
    work = survey.work(readable)
    hours = None if rate is None else work.megapixels / rate.megapixels_per_s / 3600
    share = 1.0 if settings.gpus_per_worker is None else settings.gpus_per_worker
    return {
        "network_megapixels": round(work.megapixels, 3),
        "margin": round(work.margin, 3),
        "rate": None if rate is None else rate._asdict(),
        "worker_hours": hours,
        "gpu_hours": hours * share if hours is not None and share else None,
        "workers": settings.workers,
        "hours": hours / settings.workers if hours is not None and settings.workers else None,
    }


def _lines(facts: dict[str, Any], settings: RunSettings) -> list[str]:
    ignored = ", ".join(f"{count} {kind}" for kind, count in sorted(facts["ignored"].items()))
    lost = f", {facts['captions_lost']} of them without a caption that could not be had (--retry-captions tries again)"
    failed = f", {facts['failed_before']} failed before (--retry-failed tries them again)"
    lines = [
        f"input     {facts['input']}: {facts['photos']} photos" + (f"; ignored: {ignored}" if ignored else ""),
        f"captions  {', '.join(settings.captioning.sources)}",
        *(f"look      {described(preset)}" for preset in settings.presets if len(settings.presets) > 1),
        f"look      {settings.preset.folder}, model {settings.model}, {settings.format}"
        if len(settings.presets) == 1
        else f"model     {settings.model}, {settings.format}",
        f"to do     {_todo(facts)}; {facts['done_before']} done before"
        + (lost if facts["captions_lost"] else "")
        + (failed if facts["failed_before"] else ""),
        "",
        f"{'format':10}{'photos':>10}{'to do':>10}{'size':>14}",
    ]
    for extension, kind in facts["formats"].items():
        size = "?" if kind["bytes"] is None else _size(kind["bytes"])
        lines.append(f"{extension or 'none':10}{kind['photos']:10}{kind['todo']:10}{size:>14}")
    if others := left_to_others(facts["other_presets"]):
        lines += ["", f"note: {others}"]
    if not facts["todo"]:
        return lines
    return [*lines, "", *_histogram(facts), "", *_refused(facts), *_hours(facts, settings)]


def _todo(facts: dict[str, Any]) -> str:
    several = len(facts["looks"]) > 1
    return f"{facts['todo']} photos, {facts['pictures']} pictures" if several else str(facts["todo"])


def _histogram(facts: dict[str, Any]) -> list[str]:
    looked_at, readable = facts["sample"]["photos"], facts["sample"]["of"]
    known = sum(bin_["photos"] for bin_ in facts["megapixels"])
    share = f"{looked_at / readable:.1%} of them, at random" if looked_at < readable else "all of them"
    lines = [f"sizes     from the headers of {looked_at} of {readable} photos: {share}"]
    for bin_ in facts["megapixels"]:
        if bin_["photos"]:
            name = f"{bin_['from']:g} to {bin_['to']:g} MP" if bin_["to"] else f"{bin_['from']:g} MP and more"
            part = bin_["photos"] / known
            lines.append(f"{name:>16}{part:8.1%}  {'#' * max(1, round(BAR * part))}")
    return lines


def _refused(facts: dict[str, Any]) -> list[str]:
    lines = []
    for refusal in facts["refused"]:
        all_known = refusal["sampled"] is None or facts["sample"]["photos"] == facts["sample"]["of"]
        about = str(refusal["photos"]) if all_known else f"about {refusal['photos']} ({refusal['sampled']} sampled)"
        example = refusal["example"].replace("\n", "\\n")
        lines.append(f"refused   {about}, {refusal['code']}: {refusal['message']}; such as {example}")
    return lines


def _hours(facts: dict[str, Any], settings: RunSettings) -> list[str]:
    megapixels, rate = facts["network_megapixels"], facts["rate"]
    off = f" (give or take {facts['margin'] / megapixels:.0%})" if facts["margin"] and megapixels else ""
    lines = [f"work      {megapixels:,.1f} megapixels for the networks{off}"]
    if rate is None:
        return [
            *lines,
            "time      unknown: nothing has been restored here with this model yet. Run with --limit 20 first and plan "
            "again, or give --megapixels-per-second",
        ]
    if not rate["photos"]:
        source = "as given"
    else:
        look = "this look" if rate["same_look"] else "other looks, by their number of steps"
        source = f"measured here with {rate['photos']} photos of {look}"
    share = 1.0 if settings.gpus_per_worker is None else settings.gpus_per_worker
    gpus = f" ({_duration(facts['gpu_hours'])} of GPU, with {share:g} per worker)" if share else ""
    lines.append(
        f"time      {_duration(facts['worker_hours'])} of one worker{gpus}, at {rate['megapixels_per_s']:.3g} "
        f"megapixels/s, {source}"
    )
    if facts["hours"] is not None:
        lines.append(f"          {_duration(facts['hours'])} with --workers {facts['workers']}")
    return lines


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} seconds"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:,.1f} hours"
