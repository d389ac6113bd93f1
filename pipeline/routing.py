"""Photos that are left as they are, decided before any network is asked."""

from __future__ import annotations

from pipeline.photos.header import Header
from pipeline.rows import Row
from pipeline.settings import RunSettings
from supir_core.errors import PhotoError
from supir_core.sizes import SizePlan

BILEVEL, LARGE, SHARP = "bilevel", "large-enough", "sharp-enough"
_EXPLAINED = {
    BILEVEL: "a black-and-white (1-bit) page is left as it is; --restore-all restores it",
    LARGE: "it is larger than its result would be, so it is left as it is; --restore-all restores it",
}


def skipped_by_header(header: Header, size: SizePlan, settings: RunSettings) -> str | None:
    """Why a photo is left as it is, as far as its header tells.

    Only presets that name a size of results have photos that are large enough.
    """
    if settings.restore_all:
        return None
    if header.bilevel:
        return BILEVEL
    named = settings.preset.size.short_side_px is not None
    return LARGE if named and min(size.height, size.width) < min(header.height, header.width) else None


def skipped(header: Header, size: SizePlan, sharpness: float, settings: RunSettings) -> str | None:
    """Why a photo is left as it is; None if it is to be restored."""
    limit = settings.skip_if_sharper_than
    return skipped_by_header(header, size, settings) or (SHARP if limit is not None and sharpness > limit else None)


def still_skipped(row: Row, settings: RunSettings) -> bool:
    """Whether a photo that was skipped would be again."""
    if row["skip_reason"] == SHARP:
        limit = settings.skip_if_sharper_than
        return limit is not None and row["source_sharpness"] > limit
    return not settings.restore_all


def as_refusal(reason: str) -> PhotoError:
    """What a plan says of such a photo."""
    return PhotoError(_EXPLAINED.get(reason, reason), code=reason)
