"""What a run came to, from persisted rows alone."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import index, rows
from pipeline.settings import RunSettings
from pipeline.storage import Store

_SUMMARY = """
    select status, coalesce(error_code, '') as code, count(*) as photos,
           sum(coalesce(width, 0)::double * coalesce(height, 0)) / 1e6 as megapixels,
           sum(case when run = '{run}' then 1 else 0 end) as in_this_run,
           min(photo_id) as example
    from photos where preset_digest = '{digest}'
    group by all order by photos desc, code
"""


@dataclass(frozen=True)
class Summary:
    """Counts of one look in one output."""

    restored: int
    failed: int
    restored_now: int  # by the run that asks
    failed_now: int
    megapixels: float  # of all restored pictures
    reasons: dict[str, int]  # failed photos by error code
    examples: dict[str, str]  # one photo_id per error code


def summarize(store: Store, settings: RunSettings) -> Summary:
    """The counts of the settings' look, from the index."""
    found: list[rows.Row] = []
    if index.exists(store):
        sql = _SUMMARY.format(run=settings.run, digest=settings.preset.digest)
        found = index.query(store, sql).to_pylist()
    done = [row for row in found if row["status"] == rows.RESTORED]
    failed = [row for row in found if row["status"] == rows.FAILED]
    return Summary(
        restored=sum(row["photos"] for row in done),
        failed=sum(row["photos"] for row in failed),
        restored_now=int(sum(row["in_this_run"] for row in done)),
        failed_now=int(sum(row["in_this_run"] for row in failed)),
        megapixels=sum(row["megapixels"] for row in done),
        reasons={row["code"]: row["photos"] for row in failed},
        examples={row["code"]: row["example"] for row in failed},
    )
