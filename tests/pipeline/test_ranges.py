"""A file of which only what is read is fetched: the same bytes, in few requests."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.photos.header import read_header
from pipeline.ranges import BLOCK_BYTES, open_ranges
from pipeline.storage import Store
from supir_core.errors import PhotoError, StorageError
from tests.pipeline.photographs import BAD, encoded, picture


class Counted(Store):
    """A folder that remembers what was asked of it."""

    def __init__(self, root: Path):
        super().__init__(str(root))
        self.asked: list[tuple[int, int]] = []

    def read_range(self, path: str, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return super().read_range(path, start, end)


CONTENT = random.Random(1).randbytes(3 * BLOCK_BYTES + 100)
moves = st.lists(st.tuples(st.integers(0, len(CONTENT) + 50), st.integers(-1, 2 * BLOCK_BYTES)), max_size=8)


@given(moves)
def test_it_reads_as_a_file_does(tmp_path_factory: pytest.TempPathFactory, jumps: list[tuple[int, int]]) -> None:
    store = Counted(tmp_path_factory.getbasetemp())
    store.write("file", CONTENT)
    plain = io.BytesIO(CONTENT)
    with open_ranges(store, "file", len(CONTENT)) as file:
        for offset, count in jumps:
            assert file.seek(offset) == plain.seek(offset)
            assert file.read(count) == plain.read(count)
            assert file.tell() == plain.tell()


def measure(folder: Path, data: bytes) -> tuple[tuple[int, int], int]:
    """The sides, and how many bytes were fetched."""
    store = Counted(folder)
    store.write("photo", data)
    with open_ranges(store, "photo", len(data)) as file:
        header = read_header(file)
    return (header.height, header.width), sum(end - start for start, end in store.asked)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "WEBP", "AVIF"])
def test_a_header_tells_the_sides(tmp_path: Path, format_name: str) -> None:
    assert measure(tmp_path, encoded(picture(300, 200), format_name))[0] == (300, 200)


def test_of_large_files_little_is_read(tmp_path: Path) -> None:
    noise = Image.effect_noise((1500, 1000), 80).convert("RGB")
    for format_name in ("JPEG", "PNG", "TIFF"):
        data = encoded(noise, format_name)
        assert len(data) > 500_000
        sides, fetched = measure(tmp_path, data)
        assert sides == (1000, 1500) and fetched <= 4 * BLOCK_BYTES, format_name


def test_a_directory_at_the_end_of_a_file_is_found(tmp_path: Path) -> None:
    """As in TIFF files that were written in one pass."""
    data = encoded(Image.effect_noise((700, 600), 80), "TIFF")
    at_the_end = bytearray(data) + bytes(10 * BLOCK_BYTES)
    directory = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[directory : directory + 2], "little")
    moved = data[directory : directory + 2 + 12 * count + 4]
    at_the_end[4:8] = len(at_the_end).to_bytes(4, "little")
    sides, fetched = measure(tmp_path, bytes(at_the_end + moved))
    assert sides == (600, 700) and fetched < 3 * BLOCK_BYTES


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_by_its_header(tmp_path: Path, name: str) -> None:
    code, data = BAD[name]
    if code == "damaged":  # which only the pixels tell
        assert measure(tmp_path, data)[0] == (200, 200)
        return
    with pytest.raises(PhotoError) as error:
        measure(tmp_path, data)
    assert error.value.code == code


def test_a_store_that_fails_is_no_bad_photo(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error, open_ranges(Store(str(tmp_path)), "nothing", 1000) as file:
        read_header(file)
    assert error.value.code == "not-found"
