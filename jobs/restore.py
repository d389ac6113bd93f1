"""`supir restore`: one photo, without Ray."""

from __future__ import annotations

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
from pipeline.captions.finder import CaptionFinder
from pipeline.photos.decode import check_name, decode
from pipeline.photos.encode import EXTENSIONS, check_fits, encode, encoding_warnings
from pipeline.storage import Store, split_uri
from pipeline.watch import Clock
from supir_core import models
from supir_core.errors import InputError


def restore(
    source: str,
    target: str,
    *,
    preset: str | None,
    changes: Sequence[str],
    model: str,
    caption: str | None,
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
    data = store.read(name)
    decoded = decode(data)
    if caption is None:
        finder = CaptionFinder(words, {}, risk=lambda photo: nullcontext(Clock(source)))
        caption = finder.find({"sidecar": None, "uri": store.uri(name)})["caption"]
    console = Console(stderr=True)
    with console.status("loading the networks"):
        from supir_core.image import to_uint8  # noqa: PLC0415  # brings torch: not before the input has been checked
        from supir_core.restorer import Photo, Restorer, plan_photo  # noqa: PLC0415

        subject = Photo(hashlib.sha256(data).hexdigest(), decoded.pixels, look, caption or "")
        size = plan_photo(subject)
        check_fits(size.height, size.width, EXTENSIONS[extension])
        restorer = Restorer.load(model, device=device, dtype=dtype, batch=tile_batch, compiled=compiled)
    notice = models.notice(model)
    if notice:
        console.print(f"note: {notice}", style="yellow", soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("sampling", total=look.sampling.num_steps)
        result = restorer.restore([subject], lambda step: progress.update(task, completed=step))[0]
    warnings = decoded.warnings + result.warnings + encoding_warnings(EXTENSIONS[extension], decoded.alpha)
    picture = encode(to_uint8(result.image), EXTENSIONS[extension], grey=decoded.grey, alpha=decoded.alpha)
    out_store, out_name = split_uri(Store(target).uri())
    out_store.write(out_name, picture)
    facts = {
        "photo": store.uri(name),
        "image": out_store.uri(out_name),
        "width": size.width,
        "height": size.height,
        "preset": look.name,
        "preset_digest": look.digest,
        "model": model,
        "caption": caption,
        "warnings": warnings,
        "notice": notice,
        "seconds": round(time.monotonic() - start, 2),
    }
    if as_json:
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
    else:
        Console(markup=False).print(
            f"{facts['image']}: {size.width}x{size.height}, preset {look.folder}, {facts['seconds']} s", soft_wrap=True
        )
        for warning in warnings:
            console.print(f"note: {warning} (see Warnings in README)")
