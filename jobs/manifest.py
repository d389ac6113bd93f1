"""`supir manifest`: what there is to restore, written down."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from pipeline.manifest import merge_manifests
from pipeline.storage import Store, split_uri
from supir_core.errors import InputError


def build(sources: Sequence[str], out: str, as_json: bool) -> None:
    """List photos into one Parquet file.

    Raises:
        InputError: a source holds no photos, or the file's name does not end in .parquet.
        StorageError: a store cannot be read or written.
    """
    if not out.endswith(".parquet"):
        raise InputError(f"{out} must end in .parquet", hint="as in --out manifest.parquet")
    start = time.monotonic()
    with Console(stderr=True).status("listing"):
        manifest = merge_manifests(sources)
        store, name = split_uri(Store(out).uri())
        photos = manifest.photos.num_rows
        store.upload(manifest.photos.path, name)
    seconds = round(time.monotonic() - start, 2)
    if as_json:
        facts = {"manifest": store.uri(name), "photos": photos, "ignored": manifest.ignored, "seconds": seconds}
        sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
        return
    ignored = ", ".join(f"{count} {kind}" for kind, count in sorted(manifest.ignored.items()))
    sys.stdout.write(f"{store.uri(name)}: {photos} photos in {seconds} s\n")
    if ignored:
        sys.stdout.write(f"not photos: {ignored}\n")
