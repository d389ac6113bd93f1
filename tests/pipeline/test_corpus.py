"""Pillow's own test images: some thousand files of every kind, and of every kind of damage. `make test-corpus`."""

from __future__ import annotations

import os
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.photos.decode import decode
from pipeline.photos.metadata import read_metadata
from supir_core.errors import PhotoError

FOLDER = os.environ.get("SUPIR_CORPUS", "")


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The images in Pillow's source package."""
    (package,) = folder.glob("pillow-*.tar.gz")
    with tarfile.open(package) as archive:
        for member in archive:
            content = archive.extractfile(member) if "/Tests/images/" in member.name and member.isfile() else None
            if content is not None:
                yield member.name.partition("/Tests/images/")[2], content.read()


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="make test-corpus fetches Pillow's source package and says where it lies")
def test_every_file_is_a_photo_or_has_a_reason() -> None:
    outcomes: Counter[str] = Counter()
    for name, data in files(Path(FOLDER)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders, about damage
            try:
                decoded = decode(data)
            except PhotoError as error:
                outcomes[error.code] += 1
                print(f"{name:70} {error.code}: {error}")
            else:
                assert decoded.pixels.ndim == 3, name
                read_metadata(data, decoded.format)
                outcomes["decoded"] += 1
                print(f"{name:70} decoded: {decoded.format} {decoded.mode} {decoded.bits} {decoded.warnings}")
    print(outcomes)
    assert outcomes.total() > 900 and outcomes["decoded"] > 500
    assert outcomes["out-of-memory"] == 0
