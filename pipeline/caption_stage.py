"""The caption stage: what a photo shows, from the manifest or from the caption file beside it."""

from __future__ import annotations

import pyarrow as pa

from pipeline import rows
from pipeline.manifest import caption_paths, read_caption
from pipeline.rows import Row
from pipeline.storage import split_uri
from supir_core.errors import StorageError


class CaptionStage:
    """An actor that adds `caption` and `caption_source` to manifest rows."""

    def __call__(self, photos: pa.Table) -> pa.Table:
        """rows.MANIFEST -> rows.CAPTIONED, row by row."""
        return rows.table([captioned(photo) for photo in photos.to_pylist()], rows.CAPTIONED)


def captioned(photo: Row) -> Row:
    """The photo with its caption: the manifest's prompt, else what a caption file says, else the manifest's caption."""
    if photo.get("prompt"):
        return {**photo, "caption": photo["prompt"], "caption_source": rows.PROMPT, "warnings": []}
    warnings = []
    try:
        text = _sidecar(photo)
    except (StorageError, ValueError) as error:
        text = ""
        warnings.append(f"caption-unreadable: {error}")
    if text:
        return {**photo, "caption": text, "caption_source": "sidecar", "warnings": warnings}
    if photo.get("caption"):
        return {**photo, "caption_source": "column", "warnings": warnings}
    return {**photo, "caption": "", "caption_source": "none", "warnings": warnings}


def _sidecar(photo: Row) -> str:
    if photo["sidecar"] == "":  # the listing has shown that there is none
        return ""
    store, name = split_uri(photo["sidecar"] or photo["uri"])
    for path in [name] if photo["sidecar"] else caption_paths(name):
        data = store.read_if_any(path)
        if data is not None:
            return read_caption(data)
    return ""
