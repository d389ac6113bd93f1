"""What is left to do: the manifest without what the index already has.

Both may have ten million rows, so they are never in memory: DuckDB joins them on 128-bit hashes of the photos' ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import index, rows
from pipeline.database import TableFile, into_file
from pipeline.manifest import Manifest
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import InputError

# A row per photo of this look: of its newest row, which version of the photo it is of and how that ended.
_HAD = """
    create temp table had as
    select md5_number(photo_id) as photo,
           arg_max(struct_pack(
               version := hash(source_version),
               outcome := case when status = $restored then 'restored'
                               when list_contains($transient, error_code) then 'transient'
                               else 'failed' end), finished_at) as newest
    from every_row where preset_digest = $digest group by photo
"""

_STATUS = """
    create temp view planned as
    select manifest.*, case when newest.version = hash(source_version) then newest.outcome end as outcome
    from manifest left join had on md5_number(manifest.photo_id) = had.photo
"""


@dataclass(frozen=True)
class Plan:
    """What a run has to do."""

    todo: TableFile  # rows.MANIFEST
    done_before: int  # photos of the manifest that the index has as restored
    failed_before: int  # that failed in an earlier run and are not tried again


def make_plan(manifest: Manifest, settings: RunSettings) -> Plan:
    """The manifest without what the index already has.

    A photo counts as had when its newest row of this look is of the same version of the photo. What failed for a
    transient reason is tried again; what failed for good only if the settings say so.

    Raises:
        InputError: the index holds this look made with another model (`other-model`) or in another file format
            (`other-format`).
    """
    again = ["transient"]
    if settings.retry_failed or settings.redo:
        again.append("failed")
    if settings.redo:
        again.append("restored")

    def split(connection: Any) -> tuple[TableFile, dict[str, int]]:
        _check_same(connection, settings)
        connection.execute(
            _HAD,
            {"digest": settings.preset.digest, "restored": rows.RESTORED, "transient": list(rows.TRANSIENT)},
        )
        connection.execute(_STATUS)
        left = connection.sql(
            f"select {', '.join(rows.MANIFEST.names)} from planned "
            "where outcome is null or list_contains($again, outcome) order by photo_id",
            params={"again": again},
        )
        todo = into_file(left, rows.MANIFEST)
        counted = "select outcome, count(*) from planned where outcome is not null group by outcome"
        return todo, dict(connection.execute(counted).fetchall())

    todo, before = index.read(Store(settings.output), split, manifest=manifest.photos)
    return Plan(
        todo=todo,
        done_before=0 if "restored" in again else before.get("restored", 0),
        failed_before=0 if "failed" in again else before.get("failed", 0),
    )


def _check_same(connection: Any, settings: RunSettings) -> None:
    for column, ours, what in (
        ("model_digest", settings.model_digest, "made with another model"),
        ("format", settings.format, "in another file format"),
    ):
        other = connection.execute(
            f"select 1 from every_row where preset_digest = $1 and {column} != $2 limit 1",
            [settings.preset.digest, ours],
        ).fetchone()
        if other:
            raise InputError(
                f"{settings.output} holds pictures of preset {settings.preset.folder} {what}",
                hint="give another --output, or tell the looks apart with --set sampling.seed=1235",
                code="other-model" if column == "model_digest" else "other-format",
            )
