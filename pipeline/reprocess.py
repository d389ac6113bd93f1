"""The photos of an output for another look: with their captions, as earlier looks had them."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline import index, rows
from pipeline.captions import edits as caption_edits
from pipeline.database import TableFile, into_file
from pipeline.manifest import Manifest, chosen
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import InputError

# The newest row of every photo that has been restored and meets the condition. What people have written since stands
# before its caption; warnings of captions come with it.
_PHOTOS = f"""
    create temp table earlier as
    with edits as ({caption_edits.NEWEST})
    select photos.* replace (
               coalesce(if(caption_source = '{rows.PROMPT}', null, edits.caption), photos.caption, '') as caption),
           caption_source != '{rows.PROMPT}' and edits.caption is not null as is_edited
    from (select distinct on (photo_id) * from photos
          where status = '{rows.RESTORED}' and path is not null and ({{where}})
          order by photo_id, finished_at desc) photos
    left join edits using (photo_id)
"""
_CAPTIONED = f"""
    select photo_id, source_uri as uri, path, source_version, source_bytes, caption, null::varchar as sidecar,
           if(caption_source = '{rows.PROMPT}', caption, null) as prompt, null::varchar as preset,
           null::varchar as edited, null::varchar[] as looks,
           if(is_edited, '{rows.EDITED}', caption_source) as caption_source,
           if(is_edited, null, caption_digest) as caption_digest, null::double as caption_s,
           if(is_edited, []::varchar[], tile_captions) as tile_captions,
           if(is_edited, []::varchar[], list_filter(warnings, lambda w: starts_with(w, 'caption-'))) as warnings,
           source_sha256
    from earlier order by photo_id
"""
_MODELS = """
    select model, model_digest, format, count(*) as photos from earlier
    group by all order by max(finished_at) desc
"""


class Earlier(NamedTuple):
    """Photos that have been restored."""

    manifest: Manifest  # rows.CAPTIONED
    made: list[Row]  # model, model_digest and format that they have, the newest first, with the number of photos


def earlier(store: Store, where: str | None = None, photos: str | None = None) -> Earlier:
    """The restored photos of an output, each once.

    Args:
        store: the output.
        where: a condition over the view `photos` of the index; a photo is taken if any of its looks meets it.
        photos: a text file with the ids of those to take, one per line.

    Raises:
        InputError: no index (`no-index`), a condition that is none (`sql`), an id that none has (`manifest`), or no
            photo that meets the condition (`no-photos`).
    """
    index.check_exists(store)

    def read(connection: Any) -> tuple[TableFile, list[Row]]:
        with index.answering():
            connection.execute(_PHOTOS.format(where=where or "true"))
        models = connection.sql(_MODELS).to_arrow_table().to_pylist()
        return into_file(connection.sql(_CAPTIONED), rows.CAPTIONED), models

    with caption_edits.opened(store) as edited:
        found, made = index.read(store, read, edited=edited)
    if not found.num_rows:
        raise InputError(
            f"no restored photo of {store.uri()} meets the condition" if where else f"{store.uri()} has none restored",
            hint="see: supir index OUTPUT",
            code="no-photos",
        )
    return Earlier(Manifest(found if photos is None else chosen(found, photos), {}, {}), made)
