"""The contract between the stages: the columns of a manifest and of an index row, and what `status` can be."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

RESTORED = "restored"
FAILED = "failed"
SKIPPED = "skipped"
"""Left as it is, for the reason in `skip_reason`."""
LEFT = "left"
"""Not begun, as the run is being ended; such a row stands in no index."""
TRANSIENT = ("denied", "out-of-memory", "storage", "worker-crashed")
"""Error codes of failures that may not come again: the next run tries such photos once more."""
DAMAGED = "damaged"
"""The error code of photos that `--accept-damaged` restores all the same."""

PROMPT = "prompt"
"""The `caption_source` of a photo whose caption is all that the networks read."""
EDITED = "edited"
"""The `caption_source` of a photo whose caption people have replaced (`supir captions --import`)."""

CAPTION_LOST = ("caption-endpoint-down", "caption-failed", "caption-timed-out", "caption-unreadable")
"""Warnings of a photo that might have got another caption: `--retry-captions` restores it again if it now does."""

Row = dict[str, Any]
"""One row of either schema as plain Python values."""

MANIFEST = pa.schema(
    [
        ("photo_id", pa.string()),  # stable: the path below the input, or what the manifest says
        ("uri", pa.string()),
        ("path", pa.string()),  # where its results go, relative; never leaves the output
        ("source_version", pa.string()),  # ETag, or size and time: a changed photo is restored again
        ("source_bytes", pa.int64()),
        ("caption", pa.string()),  # from the manifest; null if it has none
        ("sidecar", pa.string()),  # caption file; "" if there is none, null if nobody looked
        ("prompt", pa.string()),  # from the manifest, in place of the caption and of the preset's own words
        ("preset", pa.string()),  # the look that the photo is listed for; null: whichever is run
        ("edited", pa.string()),  # the caption that people have put in place of all others; null if they have not
        ("looks", pa.list_(pa.string())),  # digests of those that it is to get; null: all of the run
    ]
)

EVIDENCE = pa.struct(
    [
        (name, pa.float64())
        for name in (
            "de_mean", "de_block", "bias_l", "bias_a", "bias_b", "shift_px", "sharpness_ratio", "noise_ratio",
        )
    ]
)  # fmt: skip

INDEX = pa.schema(
    [
        ("photo_id", pa.string()),
        ("status", pa.string()),  # restored, failed or skipped
        ("error_code", pa.string()),  # null unless failed
        ("error_message", pa.string()),
        ("warnings", pa.list_(pa.string())),
        ("preset", pa.string()),
        ("preset_digest", pa.string()),
        ("tau_r", pa.float64()),  # null: no pull
        ("model", pa.string()),
        ("model_digest", pa.string()),
        ("caption", pa.string()),
        ("caption_source", pa.string()),  # prompt, edited, or one of captioning.SOURCES
        ("caption_digest", pa.string()),  # of the model and of what it is asked; null unless a model wrote it
        ("caption_s", pa.float64()),  # that the model took for it; null if it had been written before
        ("tile_captions", pa.list_(pa.string())),  # read in place of the caption, if there are any
        ("path", pa.string()),  # the photo's place below the folders of looks, as in rows.MANIFEST
        ("image", pa.string()),  # relative to the output; null unless restored
        ("duplicate_of", pa.string()),  # the photo_id whose picture `image` is; null if it is the photo's own
        ("format", pa.string()),  # as asked for: with `keep`, `image` ends in the photo's own
        ("bits", pa.int32()),  # of the result, per sample
        ("width", pa.int32()),  # of the result, pixels
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        (
            "fidelity_db",
            pa.float64(),
        ),  # how close the result is to the photo, see supir_core/fidelity.py: more is closer
        ("fidelity_de", pa.float64()),  # by its colours: less is closer
        ("source_uri", pa.string()),
        ("source_version", pa.string()),
        ("source_format", pa.string()),
        ("source_mode", pa.string()),
        ("source_bits", pa.int32()),  # per sample
        ("source_pages", pa.int32()),  # of which the first is restored
        ("source_whole", pa.float64()),  # share of its rows before the first damage; null if it was never decoded
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_bytes", pa.int64()),
        ("source_sha256", pa.string()),
        ("source_sharpness", pa.float64()),  # variance of the Laplacian of its luma
        ("skip_reason", pa.string()),  # null unless skipped
        ("review", pa.list_(pa.string())),  # why people should look at the result; empty if nothing speaks for it
        ("evidence", EVIDENCE),  # how far the result has moved from the photo: fidelity.Evidence
        ("seed", pa.int64()),
        ("document_id", pa.string()),  # of the result, as its XMP has it
        ("libraries", pa.string()),  # that made the result, with their versions
        ("fetch_s", pa.float64()),
        ("restore_s", pa.float64()),  # waiting for the networks and using them
        ("networks_s", pa.float64()),  # its share of the time in which they worked; all photos' add up to it
        ("commit_s", pa.float64()),
        ("seconds", pa.float64()),  # all of it
        ("worker", pa.string()),  # host:pid
        ("run", pa.string()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
        ("supir_version", pa.string()),
    ]
)

_CAPTION = ("caption_source", "caption_digest", "caption_s", "tile_captions", "warnings")

CAPTIONED = pa.schema([*MANIFEST, *(INDEX.field(name) for name in (*_CAPTION, "source_sha256"))])
"""What the caption stage hands to the restore stage; a photo that is not of the `source_sha256`, if any, is refused."""


def table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table; absent columns are null."""
    return pa.Table.from_pylist(rows, schema=schema)


def has_lost_caption(row: Row) -> bool:
    """Whether the photo might have got another caption."""
    return any(warning.split(":")[0] in CAPTION_LOST for warning in row["warnings"] or ())
