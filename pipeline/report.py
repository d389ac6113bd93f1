"""What a run came to, from persisted rows alone."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline import index, rows
from pipeline.manifest import Manifest
from pipeline.storage import Store

_SUMMARY = """
    select status, coalesce(error_code, skip_reason, '') as code,
           count(*) filter (len(review) > 0) as to_review, count(*) as photos, count(duplicate_of) as duplicates,
           count(*) filter (list_has_any([split_part(warning, ':', 1) for warning in warnings], {lost})) as lost,
           sum(if(duplicate_of is null, coalesce(width, 0)::double * coalesce(height, 0), 0)) / 1e6 as megapixels,
           min(photo_id) as example
    from manifest join photos using (photo_id)
    where preset_digest = '{digest}'
    group by all order by photos desc, code
"""


@dataclass(frozen=True)
class Summary:
    """Where the photos of a manifest stand under one look."""

    restored: int  # with a picture, of their own or of a photo of the same content
    duplicates: int  # of these, the latter
    lost_captions: int  # of the restored ones, those whose caption was lost to an outage
    failed: int
    skipped: dict[str, int]  # photos that are left as they are, by reason
    review: int  # restored photos that people should look at
    megapixels: float  # of the restored pictures
    reasons: dict[str, int]  # failed photos by error code
    examples: dict[str, str]  # one photo_id per error code


def summarize(store: Store, manifest: Manifest, preset_digest: str) -> Summary:
    """The counts of a manifest's photos in the index, whichever run made their rows."""
    found: list[rows.Row] = []
    if index.exists(store):
        found = index.query(
            store, _SUMMARY.format(digest=preset_digest, lost=list(rows.CAPTION_LOST)), manifest=manifest.photos
        ).to_pylist()
    done = [row for row in found if row["status"] == rows.RESTORED]
    failed = [row for row in found if row["status"] == rows.FAILED]
    return Summary(
        restored=sum(row["photos"] for row in done),
        duplicates=sum(row["duplicates"] for row in done),
        lost_captions=sum(row["lost"] for row in done),
        failed=sum(row["photos"] for row in failed),
        skipped={row["code"]: row["photos"] for row in found if row["status"] == rows.SKIPPED},
        review=sum(row["to_review"] for row in done),
        megapixels=sum(row["megapixels"] for row in done),
        reasons={row["code"]: row["photos"] for row in failed},
        examples={row["code"]: row["example"] for row in failed},
    )
