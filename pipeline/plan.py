"""What is left to do: the manifest without what the index already has."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipeline import index, rows
from pipeline.manifest import Manifest
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import InputError


@dataclass(frozen=True)
class Plan:
    """What a run has to do."""

    todo: pa.Table  # rows.MANIFEST
    done_before: int  # photos of the manifest that the index has as restored
    failed_before: int  # that failed in an earlier run and are not tried again


def make_plan(manifest: Manifest, settings: RunSettings) -> Plan:
    """The manifest without what the index already has.

    A photo counts as had when its row is of the same look and of the same version of the photo.

    Raises:
        InputError: the index holds this look made with another model (`other-model`) or in another file format
            (`other-format`).
    """
    found = index.finished(Store(settings.output), settings.preset.digest)
    for column, ours, what in (
        ("model_digest", settings.model_digest, "made with another model"),
        ("format", settings.format, "in another file format"),
    ):
        if set(found[column].to_pylist()) - {ours}:
            raise InputError(
                f"{settings.output} holds pictures of preset {settings.preset.folder} {what}",
                hint="give another --output, or tell the looks apart with --set sampling.seed=1235",
                code="other-model" if column == "model_digest" else "other-format",
            )
    had = {(row["photo_id"], row["source_version"]): row["status"] for row in found.to_pylist()}
    ids = zip(manifest.photos["photo_id"].to_pylist(), manifest.photos["source_version"].to_pylist(), strict=True)
    status = [had.get(key) for key in ids]
    again: set[str | None] = {None}
    if settings.retry_failed or settings.redo:
        again.add(rows.FAILED)
    if settings.redo:
        again.add(rows.RESTORED)
    return Plan(
        todo=manifest.photos.filter(pa.array([s in again for s in status], pa.bool_())),
        done_before=0 if rows.RESTORED in again else status.count(rows.RESTORED),
        failed_before=0 if rows.FAILED in again else status.count(rows.FAILED),
    )
