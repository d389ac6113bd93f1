"""What is left to do: the manifest without what the index already has.

Both may have ten million rows, so they are never in memory: DuckDB joins them on 128-bit hashes of the photos' ids.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipeline import index, replacing, rows
from pipeline.captions import edits as caption_edits
from pipeline.database import TableFile, database, into_file
from pipeline.manifest import Manifest
from pipeline.settings import RunSettings, parse_shard
from pipeline.storage import Store
from supir_core.errors import InputError

# A row per photo of this look: of its newest row, which version of the photo it is of and how that ended.
_HAD = """
    create or replace temp table had as
    select md5_number(photo_id) as photo,
           arg_max(struct_pack(
               version := hash(source_version),
               outcome := case when status = $restored and list_has_any(
                                   [split_part(warning, ':', 1) for warning in warnings], $lost) then 'uncaptioned'
                               when status = $restored then 'restored'
                               when list_contains($transient, error_code) then 'transient'
                               else 'failed' end), finished_at) as newest
    from every_row where preset_digest = $digest group by photo
"""

_OUTCOMES = ("restored", "uncaptioned", "failed", "transient")

# The photos of this look, of a list that names presets: a row that names this one stands before one that names none.
_OF_PRESET = """
    create or replace temp table listed as
    select distinct on (photo_id) * from manifest where preset is null or preset = $preset
    order by photo_id, preset nulls last
"""

_KNOWN = """
    create or replace temp view known as
    select listed.*, case when newest.version = hash(source_version) then newest.outcome end as outcome
    from listed left join had on md5_number(listed.photo_id) = had.photo
"""

_STATUS = "create or replace temp view status as select * from known"

# The same where people have written captions: photos whose newest row of this look has another one are not done.
_STATUS_WITH_EDITS = f"""
    create or replace temp table edits as {caption_edits.NEWEST};
    create or replace temp table captions as
    select photo_id, arg_max(caption, finished_at) as caption
    from every_row where preset_digest = $digest and photo_id in (select photo_id from edits) group by photo_id;
    create or replace temp view status as
    select known.* replace (edits.caption as edited,
        case when edits.caption is null or prompt is not null or captions.caption = edits.caption then outcome end
        as outcome)
    from known left join edits using (photo_id) left join captions using (photo_id)
"""

_PAIRS = """
    create or replace temp table pairs as
    select md5_number(photo_id) as photo, md5_number(duplicate_of) as first
    from every_row where preset_digest = $digest and duplicate_of is not null
"""

# Photos whose row points at another's picture, and whether that has changed since, by the newest rows of both.
_COPIES = """
    create or replace temp table copies as
    with newest as (
        select md5_number(photo_id) as photo, arg_max(struct_pack(
            first := md5_number(duplicate_of), content := hash(sha256), restored := status = $restored
        ), finished_at) as row
        from every_row where preset_digest = $digest
        and md5_number(photo_id) in (select photo from pairs union all select first from pairs) group by all)
    select copy.photo as photo, copy.row.first as first,
           coalesce(original.row.restored and original.row.content != copy.row.content, false) as changed
    from newest copy left join newest original on original.photo = copy.row.first where copy.row.first is not null
"""

_STALE = """
    create or replace temp table stale as
    select photo from copies where changed or first in (
        select md5_number(photo_id) from status where outcome is null or list_contains($again, outcome))
    union select md5_number(unnest($replaced))
"""

_STATUS_BUT_STALE = """
    create or replace temp view planned as
    select * replace (if(md5_number(photo_id) in (select photo from stale), null, outcome) as outcome) from status
"""


@dataclass(frozen=True)
class Plan:
    """What a run has to do. Counts are of photos, for each look of the run anew."""

    todo: TableFile  # as the manifest's, a row per photo; `looks` says which it is to get
    pictures: int  # that are to be made: of each photo of `todo` one per look
    done_before: int  # photos of the manifest that the index has as restored
    lost_captions: int  # of these, those whose caption was lost to an outage
    failed_before: int  # that failed in an earlier run and are not tried again


def make_plan(manifest: Manifest, settings: RunSettings) -> Plan:
    """The manifest without what the index already has, for each look of the settings.

    A photo counts as had when its newest row of a look is of the same version of the photo, and has the caption that
    people have put in place, if they have. What failed for a transient reason is tried again; what failed for good, or
    lost its caption, only if the settings say so. With a shard, only its photos.

    Args:
        manifest: its photos may be rows.CAPTIONED, too.
        settings: of the run.

    Raises:
        InputError: the index holds a look made with another model (`other-model`) or in another file format
            (`other-format`).
    """
    store, again = Store(settings.output), _tried_again(settings)
    with caption_edits.opened(store) as edited:
        looks = index.read(
            store,
            lambda connection: [
                _of_look(connection, look, manifest.photos.schema, bool(edited.files)) for look in settings.each_look()
            ],
            manifest=manifest.photos,
            edited=edited,
        )
    before: Counter[str] = sum((had for _, had in looks), Counter())
    had = {outcome: 0 if outcome in again else before[outcome] for outcome in _OUTCOMES}
    todos = [todo for todo, _ in looks]
    return Plan(
        todo=_merged(todos) if len(todos) > 1 else todos[0],
        pictures=sum(todo.num_rows for todo in todos),
        done_before=had["restored"] + had["uncaptioned"],
        lost_captions=had["uncaptioned"],
        failed_before=had["failed"],
    )


def _tried_again(settings: RunSettings) -> list[str]:
    """The outcomes that are not enough."""
    again = ["transient"]
    if settings.retry_failed or settings.redo:
        again.append("failed")
    if settings.retry_captions or settings.redo:
        again.append("uncaptioned")
    if settings.redo:
        again.append("restored")
    return again


def _of_look(connection: Any, settings: RunSettings, schema: pa.Schema, edited: bool) -> tuple[TableFile, Counter[str]]:
    """What is to be done for one look, and how many photos have had which outcome."""
    digest, again = settings.preset.digest, _tried_again(settings)
    _check_same(connection, settings)
    if connection.execute("select 1 from manifest where preset is not null limit 1").fetchone():
        connection.execute(_OF_PRESET, {"preset": settings.preset.name})
    else:
        connection.execute("create or replace temp view listed as select * from manifest")
    connection.execute(
        _HAD,
        {
            "digest": digest,
            "restored": rows.RESTORED,
            "lost": list(rows.CAPTION_LOST),
            "transient": list(rows.TRANSIENT),
        },
    )
    connection.execute(_KNOWN)
    if edited:
        for statement in _STATUS_WITH_EDITS.split(";"):
            connection.execute(statement, {"digest": digest} if "$digest" in statement else None)
    else:
        connection.execute(_STATUS)
    planned = "planned" if _find_stale(connection, settings, again) else "status"
    mine = _shard_condition(settings.shard)
    left = connection.sql(
        f"select {', '.join(schema.names)} from (select * replace ([$digest] as looks) from {planned}) "
        f"where (outcome is null or list_contains($again, outcome)) and {mine} order by photo_id",
        params={"again": again, "digest": digest},
    )
    todo = into_file(left, schema)
    counted = f"select outcome, count(*) from {planned} where outcome is not null and {mine} group by outcome"
    return todo, Counter(dict(connection.execute(counted).fetchall()))


def _merged(todos: list[TableFile]) -> TableFile:
    """What is to be done for each look, as a row per photo; two, where a list says something else of it for each."""
    schema, named = todos[0].schema, {f"look_{n}": todo for n, todo in enumerate(todos)}
    same = [name for name in schema.names if name not in ("looks", "preset")]
    every = " union all ".join(f"select *, {n} as position from look_{n}" for n in range(len(todos)))
    columns = {"looks": "list(looks[1] order by position) as looks", "preset": "min(preset) as preset"}
    with database(**named) as connection:
        merged = connection.sql(
            f"select {', '.join(columns.get(name, name) for name in schema.names)} from ({every}) "
            f"group by {', '.join(same)} order by photo_id"
        )
        return into_file(merged, schema)


def _find_stale(connection: Any, settings: RunSettings, again: list[str]) -> bool:
    """Find photos whose row is no longer right about its picture; whether there are any.

    Their row points at a picture that has changed or is about to; or their own picture is newer than their row.
    """
    connection.execute(_PAIRS, {"digest": settings.preset.digest})
    replaced = replacing.marked(Store(settings.output), settings.preset.folder)
    copies = connection.execute("select 1 from pairs limit 1").fetchone()
    if not copies and not replaced:
        return False
    connection.execute(_COPIES, {"digest": settings.preset.digest, "restored": rows.RESTORED})
    connection.execute(_STALE, {"again": again, "replaced": replaced})
    connection.execute(_STATUS_BUT_STALE)
    return True


def _shard_condition(shard: str | None) -> str:
    number, shards = parse_shard(shard)
    return f"md5_number_lower(photo_id) % {shards} = {number - 1}" if shards > 1 else "true"


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


def of_shard(manifest: Manifest, shard: str | None) -> Manifest:
    """The photos of a shard, which only their ids decide."""
    if parse_shard(shard) == (1, 1):
        return manifest
    with database(manifest=manifest.photos) as connection:
        mine = f"select * from manifest where {_shard_condition(shard)} order by photo_id"
        return replace(manifest, photos=into_file(connection.sql(mine), manifest.photos.schema))
