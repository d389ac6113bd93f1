"""`supir run`: check everything, plan, run the flow, say what came out."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Literal, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs import exits
from jobs.looks import choose_looks, described, look_facts
from jobs.progress import RunProgress
from pipeline import logs, model_cache, report
from pipeline.captions import captioning
from pipeline.captions.captioning import ENDPOINT, VLM, Captioning
from pipeline.lease import STALE_S, held
from pipeline.manifest import Manifest, read_manifest
from pipeline.plan import Plan, make_plan, of_shard
from pipeline.settings import RunSettings, check_together, parse_shard
from pipeline.stopping import Stop
from pipeline.storage import Store
from supir_core import models
from supir_core.caption_model import caption_directory
from supir_core.errors import InputError

SUBMISSION_VARIABLE = "SUPIR_SUBMISSION"
"""The environment variable in which `supir submit` tells a run its submission's id, for `run.json`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    input: str
    output: str
    presets: tuple[str, ...]
    changes: tuple[str, ...]
    sweep: tuple[str, ...]
    model: str
    format: str
    quality: int | None
    accept_damaged: bool
    restore_all: bool
    skip_if_sharper_than: float | None
    limit: int | None
    only: str | None
    shard: str | None
    retry_failed: bool
    retry_captions: bool
    redo: bool
    keep_latents: bool
    workers: int | None
    gpus_per_worker: float | None
    photos_per_batch: int
    tile_batch: int
    max_megapixels: float
    photo_timeout_s: float | None
    address: str | None
    device: str | None
    dtype: str | None
    compiled: bool
    allow_download: bool
    allow_uris: tuple[str, ...]
    log_format: str

    @classmethod
    def of(cls, options: dict[str, Any]) -> Request:
        """What the options of `supir run` ask for; others are passed over."""
        lists = {"presets": "presets", "changes": "settings", "sweep": "sweep", "allow_uris": "allow_uris"}
        asked = {**options, **{name: tuple(options[option] or ()) for name, option in lists.items()}}
        return cls(**{field.name: asked[field.name] for field in fields(cls)})


def run(request: Request, progress_style: str, as_json: bool) -> int:
    """Restore what is left to restore; the exit code."""
    console, progress_style = speaking(request.log_format, progress_style)
    settings = build_settings(request)
    logs.set_up(settings.log_format, settings.run)
    store, stop = Store(settings.output), Stop()
    with stop.listening():
        with console.status("reading the input"):
            manifest = read_manifest(settings.input, settings.limit, settings.preset_names, settings.only)
        return carry_out(settings, store, manifest, stop, progress_style, as_json, console)


def speaking(log_format: str, progress_style: str) -> tuple[Console, str]:
    """Where a command says what it does, as text or as log lines, and how it then shows its progress."""
    logs.set_up(log_format)
    if log_format == logs.JSON:
        styled = "none" if progress_style == "none" else "log"
        return Console(file=cast(IO[str], logs.LinesAsLog(log)), width=200, soft_wrap=True, markup=False), styled
    return Console(stderr=True, soft_wrap=True, markup=False), progress_style


def carry_out(
    settings: RunSettings,
    store: Store,
    manifest: Manifest,
    stop: Stop,
    progress_style: str,
    as_json: bool,
    console: Console,
) -> int:
    """Restore what is left of a manifest, and say what came out; the exit code."""
    submitted = SUBMISSION_VARIABLE in os.environ  # perhaps as the machine of its driver has died just now
    with held(store, settings, stop.interrupt, wait_s=2 * STALE_S if submitted else 0.0):
        return _run(settings, store, manifest, stop, progress_style, as_json, console)


def _run(
    settings: RunSettings,
    store: Store,
    manifest: Manifest,
    stop: Stop,
    progress_style: str,
    as_json: bool,
    console: Console,
) -> int:
    with console.status("reading the index"):
        plan = make_plan(manifest, settings)
        manifest = of_shard(manifest, settings.shard)
    for note in filter(None, (models.notice(settings.model), left_to_others(manifest.others))):
        console.print(f"note: {note}", style="yellow")
    seconds, left, kept = 0.0, 0, 0
    if plan.todo.num_rows:
        seconds, left, kept = _run_flow(settings, store, manifest, plan, stop, progress_style, console)
    summary = report.summarize(store, manifest, settings.presets)
    outcome = Outcome(manifest, plan, summary, seconds, left, kept)
    if as_json:
        sys.stdout.write(json.dumps(_facts(settings, store, outcome), ensure_ascii=False) + "\n")
    elif plan.todo.num_rows:
        _show(console, settings, outcome)
    else:
        console.print(_nothing_to_do(settings, plan))
    if left:
        console.print(f"interrupted: {left} {_things(settings)} are left; the same command goes on from here")
        return exits.INTERRUPTED
    return exits.SOME_FAILED if summary.failed else exits.DONE


@dataclass(frozen=True)
class Outcome:
    """What a run started from and where it ended."""

    manifest: Manifest
    plan: Plan
    summary: report.Summary
    seconds: float
    left: int  # photos that were not begun, as the run was to end
    kept: int  # photos that were to get another caption, and have got none

    @property
    def restored_now(self) -> int:
        """Restored photos that were not restored before this run."""
        return self.summary.restored - self.plan.done_before - self.kept

    @property
    def failed_now(self) -> int:
        """Failed photos that had not failed before this run."""
        return self.summary.failed - self.plan.failed_before


def _run_flow(
    settings: RunSettings,
    store: Store,
    manifest: Manifest,
    plan: Plan,
    stop: Stop,
    progress_style: str,
    console: Console,
) -> tuple[float, int, int]:
    """Restore the photos of the plan; the seconds that it took, how many photos are left, and how many as they were."""
    with console.status("loading torch"):  # which a run with nothing to do can spare
        from supir_core.precision import device_named  # noqa: PLC0415
        from supir_core.weights import check_model  # noqa: PLC0415

        if not model_cache.is_remote(settings.model):  # else the workers will, when they have fetched it
            if settings.address:
                models.check_safetensors(settings.model)
            check_model(settings.model)
        check_captioner(settings, settings.allow_download, ask=True)
        if not settings.address:
            device_named(settings.device)
    already = f", {plan.done_before} done before" if plan.done_before else ""
    looks = f" (pictures: {plan.pictures}, looks: {len(settings.presets)})" if len(settings.presets) > 1 else ""
    console.print(
        f"run {settings.run}: photos to restore: {plan.todo.num_rows}{looks}{already}; "
        "starting Ray and loading the networks, which takes a while"
    )
    with console.status("loading Ray and the networks"):
        from pipeline import flow  # noqa: PLC0415
    settings.save(
        store,
        photos=manifest.num_photos,
        todo=plan.pictures,
        done_before=plan.done_before,
        failed_before=plan.failed_before,
        ignored=manifest.ignored,
        submission=os.environ.get(SUBMISSION_VARIABLE),
    )
    with RunProgress(plan.pictures, progress_style) as progress:
        stop.say = progress.say
        kept = 0

        def add(new: list[dict[str, Any]]) -> None:
            nonlocal kept
            progress.add(new)
            kept += sum(settings.retry_captions and row["run"] != settings.run for row in new)

        finished = flow.run(settings, plan.todo, add, on_captions=progress.add_captions, stop=stop)
    return progress.seconds, 0 if finished else progress.left, kept


def build_settings(request: Request) -> RunSettings:
    """What a request comes to.

    Raises:
        SupirError: a preset, model or output that cannot be.
    """
    parse_shard(request.shard)
    _check_apart(Store(request.input).uri(), Store(request.output).uri())
    words = captioning.from_settings(request.changes, request.model)
    return settings_of(request, words, "keep" if request.keep_latents else "none")


def settings_of(request: Request, words: Captioning, latents: Literal["none", "use", "keep"]) -> RunSettings:
    """The same with captions and latents from where the caller says.

    Raises:
        SupirError: a preset, model or output that cannot be.
    """
    changes = [change for change in request.changes if not captioning.is_caption(change)]
    looks = choose_looks(request.presets, changes, request.sweep, request.model)
    check_together(looks, words)
    values: dict[str, Any] = asdict(request)
    for name in ("changes", "sweep", "keep_latents"):
        del values[name]
    remote, demo = model_cache.is_remote(request.model), request.model == models.DEMO_MODEL
    run_name = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)
    return RunSettings(
        **{
            **values,
            "presets": looks,
            "captioning": words,
            "latents": latents,
            "input": Store(request.input).uri(),
            "output": Store(request.output).uri(),
            "run": run_name,
            "model": request.model if remote or demo else str(Path(request.model).resolve()),
            "model_digest": (model_cache.digest if remote else models.model_digest)(request.model),
        }
    )


def check_captioner(settings: RunSettings, allow_download: bool, ask: bool) -> None:
    """See that what is to write captions can be there, before anything is started; imports no torch.

    Args:
        settings: of the run.
        allow_download: of a model that is not there.
        ask: ask the server, if there is one, for a caption of a grey picture.

    Raises:
        SupirError: no such model, or an impossible endpoint.
    """
    captioning = settings.captioning
    if VLM in captioning.sources:
        caption_directory(captioning.model, allow_download)
    if ENDPOINT in captioning.sources:
        from pipeline.captions.endpoint import endpoint_of  # noqa: PLC0415

        server = endpoint_of(captioning)
        if ask:
            server.check()


def left_to_others(presets: dict[str, int]) -> str:
    """What a user must be told of photos that are listed for other presets; empty if there are none."""
    if not presets:
        return ""
    listed = ", ".join(f"{name} ({count})" for name, count in presets.items())
    return f"the list has photos for other presets, which this run leaves out: {listed}"


def _check_apart(source: str, output: str) -> None:
    """Originals stay untouched, and results never become photos of the next run."""
    inside = (source.rstrip("/") + "/").startswith(f"{output}/images/")
    if inside or output == source or output.startswith(source.rstrip("/") + "/"):
        raise InputError(
            f"the output {output} lies inside the input {source}",
            hint="choose an --output beside the photos, not among them",
            code="output-in-input",
        )


def _lost_captions(photos: int) -> str:
    return (
        f"captions that could not be had: {photos}, as captioner, server or file failed (--retry-captions tries again)"
    )


def _things(settings: RunSettings) -> str:
    """What is counted: a photo has a picture for each look."""
    return "photos" if len(settings.presets) == 1 else "pictures"


def _nothing_to_do(settings: RunSettings, plan: Plan) -> str:
    text = f"nothing to do: {plan.done_before} {_things(settings)} are restored"
    if plan.lost_captions:
        text += f" ({_lost_captions(plan.lost_captions)})"
    if plan.skipped_before:
        text += f", {plan.skipped_before} are left as they are"
    if plan.failed_before:
        text += f", {plan.failed_before} failed in an earlier run (--retry-failed tries them again)"
    return text


def _facts(settings: RunSettings, store: Store, outcome: Outcome) -> dict[str, Any]:
    """What `--json` prints."""
    plan, summary = outcome.plan, outcome.summary
    return {
        "run": settings.run if plan.todo.num_rows else None,
        "photos": outcome.manifest.num_photos,
        "todo": plan.pictures,
        "restored": outcome.restored_now,
        "failed": outcome.failed_now,
        "skipped_total": summary.skipped,
        "review_total": summary.review,
        "left": outcome.left,
        "duplicates_total": summary.duplicates,
        "kept": outcome.kept,
        "captions_lost": summary.lost_captions,
        "restored_before": plan.done_before,
        "failed_before": plan.failed_before,
        "reasons": summary.reasons,
        "ignored": outcome.manifest.ignored,
        "other_presets": outcome.manifest.others,
        "megapixels_total": summary.megapixels,
        "seconds": round(outcome.seconds, 2),
        "output": store.uri(),
        "images": store.uri(f"images/{settings.preset.folder}"),
        "preset": settings.preset.name,
        "preset_digest": settings.preset.digest,
        "looks": [
            {
                **look_facts(preset),
                "restored_total": summary.restored_by_look[preset.folder],
                "images": store.uri(f"images/{preset.folder}"),
            }
            for preset in settings.presets
        ],
        "notice": models.notice(settings.model),
    }


def _show(console: Console, settings: RunSettings, outcome: Outcome) -> None:
    plan, summary, ignored = outcome.plan, outcome.summary, outcome.manifest.ignored
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_row("restored", str(outcome.restored_now), f"and {plan.done_before} before" if plan.done_before else "")
    if summary.review:
        table.add_row("", "", f"to be looked at: {summary.review} (column review says why)")
    for reason, count in summary.skipped.items():
        table.add_row("skipped", str(count), f"{reason}: left as they are")
    if outcome.kept:
        table.add_row("kept", str(outcome.kept), "as there was no other caption for them")
    if summary.duplicates:
        table.add_row(
            "", "", f"duplicates: {summary.duplicates}, which show the picture of a photo of the same content"
        )
    if summary.lost_captions:
        table.add_row("", "", _lost_captions(summary.lost_captions))
    before = f"and {plan.failed_before} before (--retry-failed tries them again)" if plan.failed_before else ""
    table.add_row("failed", str(outcome.failed_now), before)
    for code, count in summary.reasons.items():
        example = summary.examples[code].replace("\n", "\\n")
        table.add_row("", "", Text(f"{code}: {count}, such as {example}"))
    if ignored:
        files = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        table.add_row("ignored", str(sum(ignored.values())), Text(f"not photos: {files}"))
    several = len(settings.presets) > 1
    for preset in settings.presets if several else ():
        table.add_row("look", str(summary.restored_by_look[preset.folder]), described(preset))
    of = f"{len(settings.presets)} looks" if several else f"preset {settings.preset.folder}"
    table.add_row("time", f"{outcome.seconds:.1f} s", f"{of}, model {settings.model}")
    console.print(table)
    if summary.restored or summary.failed:
        for preset in settings.presets:
            console.print(f"pictures: {Store(settings.output).uri(f'images/{preset.folder}')}")
        console.print(f"index: supir index {settings.output}")
