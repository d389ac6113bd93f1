"""libvips as this project uses it: no untrusted loaders, no cache, one thread."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import Any


@lru_cache(1)
def libvips() -> Any:
    """The module pyvips, set up when it is first asked for: a command that decodes nothing does not load it.

    One thread, as workers are what runs in parallel; loaders that libvips itself does not trust with strange files
    (ImageMagick's, for one) are off; and a worker that has seen a million photos keeps none of them.
    """
    os.environ.setdefault("VIPS_CONCURRENCY", "1")  # libvips reads it when it is loaded
    import pyvips  # noqa: PLC0415

    logging.getLogger("pyvips").setLevel(logging.CRITICAL)  # what it has to say becomes rows' warnings
    pyvips.block_untrusted_set(True)
    pyvips.cache_set_max(0)
    return pyvips


def image_of(file: bytes, fail_on: str) -> Any:
    """A photo file as a pyvips image, whose pixels can be read once, row by row.

    Args:
        file: must outlive the image; it is not copied.
        fail_on: `none`, or `warning` for the strictest reading.

    Raises:
        pyvips.Error: libvips cannot read it.
    """
    source = libvips().Source.new_from_memory(file)
    return libvips().Image.new_from_source(source, "", access="sequential", fail_on=fail_on)
