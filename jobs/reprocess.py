"""`supir reprocess`: other looks of what an output has, with the captions and the stage 1 of earlier ones."""

from __future__ import annotations

from typing import Any

from jobs.run import Request, carry_out, settings_of, speaking
from pipeline import kept, logs
from pipeline.captions.captioning import NONE, Captioning, is_caption
from pipeline.reprocess import Earlier, earlier
from pipeline.settings import RunSettings
from pipeline.stopping import Stop
from pipeline.storage import Store
from supir_core.errors import InputError


def reprocess(
    output: str, where: str | None, photos: str | None, options: dict[str, Any], progress_style: str, as_json: bool
) -> int:
    """Make looks of photos that the output has; the exit code.

    Args:
        output: of earlier runs.
        where: as `pipeline.reprocess.earlier` takes it.
        photos: as there.
        options: of `supir run`, as far as they matter here; model and format may be None: as before.
        progress_style: as of `supir run`.
        as_json: print one JSON object.

    Raises:
        InputError: as `earlier`; or captions are to change (`caption-setting`).
    """
    console, progress_style = speaking(options["log_format"], progress_style)
    if any(map(is_caption, options["settings"] or ())):
        raise InputError(
            "supir reprocess takes the captions that there are",
            hint="supir run makes others; supir captions changes them",
            code="caption-setting",
        )
    store, stop = Store(output), Stop()
    with stop.listening():
        with console.status("reading the index"):
            found = earlier(store, where, photos)
        newest = found.made[0]
        given = {name: options[name] or newest[name] for name in ("model", "format")}
        aside = {"input": output, "output": output, "limit": None, "only": photos, "retry_captions": False}
        request = Request.of({**options, **given, **aside, "allow_download": False})
        settings = settings_of(request, Captioning(source=NONE), "keep" if request.keep_latents else "use")
        logs.set_up(settings.log_format, settings.run)
        for note in notes(store, settings, found):
            console.print(f"note: {note}", style="yellow")
        return carry_out(settings, store, found.manifest, stop, progress_style, as_json, console)


def notes(store: Store, settings: RunSettings, found: Earlier) -> list[str]:
    """What a user must be told before it begins: where stage 1 cannot be taken from earlier runs."""
    others = {row["model_digest"]: row["photos"] for row in found.made if row["model_digest"] != settings.model_digest}
    said = [
        f"{photos} photos were restored with another model ({digest}): their stage 1 is computed again"
        for digest, photos in others.items()
    ]
    if len(others) < len({row["model_digest"] for row in found.made}) and not store.exists(kept.folder(settings)):
        said.append("the earlier runs kept no latents (--keep-latents): stage 1 is computed again")
    return said
