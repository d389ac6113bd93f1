"""`supir restore`: one photo, without Ray."""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import PurePosixPath

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jobs.looks import choose_preset
from pipeline.captions import captioning
from pipeline.captions.captioning import Captioning
from pipeline.captions.finder import CaptionFinder
from pipeline.photos import evidence as evidences
from pipeline.photos.decode import decode
from pipeline.photos.encode import EXTENSIONS, check_fits
from pipeline.photos.header import check_name
from pipeline.photos.result import finish, libraries
from pipeline.photos.xmp import Provenance
from pipeline.rows import Row
from pipeline.storage import Store, split_uri
from pipeline.watch import Clock
from supir_core import __version__, models
from supir_core.errors import InputError


def restore(
    source: str,
    target: str,
    *,
    preset: str | None,
    changes: Sequence[str],
    model: str,
    caption: str | None,
    quality: int | None,
    accept_damaged: bool,
    sidecar: bool,
    tile_batch: int,
    device: str | None,
    dtype: str | None,
    compiled: bool,
    as_json: bool,
) -> None:
    """Restore one photo and say what came out.

    Raises:
        SupirError: whatever is wrong with the input, the photo or the weights.
    """
    start = time.monotonic()
    look = choose_preset(preset, [change for change in changes if not captioning.is_caption(change)], model)
    words = captioning.from_settings(changes, model)
    if words.looks:
        raise InputError(
            "supir restore asks no captioning model",
            hint="supir run does, also for one photo; or give --caption",
            code="caption-setting",
        )
    extension = PurePosixPath(target).suffix.lower().lstrip(".")
    if extension not in EXTENSIONS:
        raise InputError(f"{target} must end in {', '.join('.' + e for e in EXTENSIONS)}", code="format")
    place = Store(source)
    if place.exists() and not place.is_file():
        raise InputError(f"{source} is a folder", hint="supir run --input FOLDER --output FOLDER", code="format")
    store, name = split_uri(place.uri())
    if place.uri() == Store(target).uri():
        raise InputError(f"{target} is the photo itself", hint="give the result another name", code="output-in-input")
    check_name(name)
    out_store, out_name = split_uri(Store(target).uri())
    record_name = f"{out_name}.json"
    if sidecar:
        out_store.check_name(record_name)
    data = store.read(name)
    decoded = decode(data, accept_damaged=accept_damaged)
    format_name = EXTENSIONS[extension]
    said = _said(caption, words, store.uri(name))
    console = Console(stderr=True)
    with console.status("loading the networks"):
        # This brings torch: not before the input has been checked.
        from supir_core.restorer import Photo, Restorer, plan_photo  # noqa: PLC0415

        subject = Photo(hashlib.sha256(data).hexdigest(), decoded.pixels, look, said["caption"] or "")
        size = plan_photo(subject)
        check_fits(size.height, size.width, format_name)
        restorer = Restorer.load(model, device=device, dtype=dtype, batch=tile_batch, compiled=compiled)
    notice = models.notice(model)
    if notice:
        console.print(f"note: {notice}", style="yellow", soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("sampling", total=look.sampling.num_steps)
        result = restorer.restore([subject], lambda step: progress.update(task, completed=step))[0]
    image = result.image[0].numpy()
    story = Provenance(subject.key, look.folder, models.model_digest(model), look.sampling.seed, subject.caption)
    evidence = evidences.measured(image, decoded.pixels)
    done = finish(image, decoded, data, format_name, quality, story)
    warnings = said["warnings"] + decoded.warnings + result.warnings + done.warnings
    out_store.write(out_name, done.data)
    facts = {
        "photo": store.uri(name),
        "image": out_store.uri(out_name),
        "width": size.width,
        "height": size.height,
        "preset": look.name,
        "preset_digest": look.digest,
        "tau_r": look.pull.tau_r,
        "model": model,
        "caption": said["caption"],
        "caption_source": said["caption_source"],
        "warnings": warnings,
        "review": evidences.reasons(evidence, look.review),
        "evidence": evidence._asdict(),
        "bits": done.bits,
        "source_sha256": subject.key,
        "sha256": hashlib.sha256(done.data).hexdigest(),
        "model_digest": story.model_digest,
        "seed": story.seed,
        "document_id": story.document,
        "libraries": libraries(),
        "supir_version": __version__,
        "notice": notice,
        "seconds": round(time.monotonic() - start, 2),
    }
    if sidecar:
        record = facts | {"finished_at": datetime.datetime.now(datetime.UTC).isoformat()}
        out_store.write(record_name, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    _tell(facts, look.folder, console, as_json)


def _said(caption: str | None, words: Captioning, uri: str) -> Row:
    """The caption, where it is from, and what was wrong with other sources."""
    if caption is not None:
        return {"caption": caption, "caption_source": "option", "warnings": []}
    finder = CaptionFinder(words, {}, risk=lambda photo: nullcontext(Clock(uri)))
    return finder.find({"sidecar": None, "uri": uri})


def _tell(facts: Row, look: str, console: Console, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return
    line = f"{facts['image']}: {facts['width']}x{facts['height']}, preset {look}, {facts['seconds']} s"
    Console(markup=False).print(line, soft_wrap=True)
    for warning in facts["warnings"]:
        console.print(f"note: {warning} (see Warnings in README)")
