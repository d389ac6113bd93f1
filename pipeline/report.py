"""What a run came to, from persisted rows alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import index, rows
from pipeline.manifest import Manifest
from pipeline.storage import Store
from supir_core.presets import Preset

_SUMMARY = """
    select preset_digest, status, coalesce(error_code, '') as code, count(*) as photos,
           count(duplicate_of) as duplicates,
           count(*) filter (list_has_any([split_part(warning, ':', 1) for warning in warnings], {lost})) as lost,
           sum(if(duplicate_of is null, coalesce(width, 0)::double * coalesce(height, 0), 0)) / 1e6 as megapixels,
           min(photo_id) as example
    from photos semi join manifest on photos.photo_id = manifest.photo_id
                                   and (manifest.preset is null or manifest.preset = photos.preset)
    where list_contains({digests}, preset_digest)
    group by all order by photos desc, code
"""


@dataclass(frozen=True)
class Summary:
    """Where the photos of a manifest stand; counted for each look anew."""

    restored: int  # with a picture, of their own or of a photo of the same content
    duplicates: int  # of these, the latter
    lost_captions: int  # of the restored ones, those whose caption was lost to an outage
    failed: int
    megapixels: float  # of the restored pictures
    reasons: dict[str, int]  # failed photos by error code
    examples: dict[str, str]  # one photo_id per error code
    restored_by_look: dict[str, int]  # by the look's folder


def summarize(store: Store, manifest: Manifest, presets: Sequence[Preset]) -> Summary:
    """The counts of a manifest's photos in the index, under some looks, whichever run made their rows."""
    digests, found = [preset.digest for preset in presets], list[rows.Row]()
    if index.exists(store):
        sql = _SUMMARY.format(digests=digests, lost=list(rows.CAPTION_LOST))
        found = index.query(store, sql, manifest=manifest.photos).to_pylist()
    done = [row for row in found if row["status"] == rows.RESTORED]
    failed = [row for row in found if row["status"] == rows.FAILED]
    reasons, examples = Counter[str](), dict[str, str]()
    for row in failed:
        reasons[row["code"]] += row["photos"]
        examples.setdefault(row["code"], row["example"])
    return Summary(
        restored=sum(row["photos"] for row in done),
        duplicates=sum(row["duplicates"] for row in done),
        lost_captions=sum(row["lost"] for row in done),
        failed=sum(row["photos"] for row in failed),
        megapixels=sum(row["megapixels"] for row in done),
        reasons=dict(reasons.most_common()),
        examples=examples,
        restored_by_look={
            preset.folder: sum(row["photos"] for row in done if row["preset_digest"] == preset.digest)
            for preset in presets
        },
    )
