"""How much of a photo file is whole: decoders carry on, often without a word, with half a picture of grey or noise."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pipeline.photos.containers import Block, jpeg_block, jpeg_blocks
from pipeline.photos.vips import image_of, libvips
from supir_core.errors import PhotoError

END_OF_JPEG = b"\xff\xd9"
SPARE_BYTES = 8  # that a JPEG may have too many before its end: some writers fill up to whole words
_MARKER_IN_DATA = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_STEP_ROWS = 8  # in which whole rows are counted
_EXTRA_ROWS = 64
_MOST_ROWS = 65500
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = (0xC0, 0xC1, *_PROGRESSIVE, 0xC9, 0xCD)  # markers of what libjpeg decodes
_ADOBE = 0xEE


class DamagedPhotoError(PhotoError):
    """A photo of which a part cannot be decoded.

    Args:
        whole: the share of its rows before the first damage, in [0, 1]; None where only its end tells of it.
    """

    code = "damaged"

    def __init__(self, whole: float | None):
        hint = "--accept-damaged restores what is there, and invents the rest"
        super().__init__(damage(whole), hint=hint)
        self.whole = whole

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes."""
        return type(self), (self.whole,)


def damage(whole: float | None) -> str:
    """What is to be said of a damaged photo."""
    if whole is None:
        return "bits are wrong somewhere in it: its data end after its picture does"
    return f"{whole:.0%} of its rows are whole, the rest is missing or wrong"


def whole_rows(file: bytes) -> float:
    """The share of a photo's rows that come before the decoder's first complaint, in [0, 1].

    A progressive JPEG has none until its end.
    """
    try:
        taller = _taller(file)
    except ValueError:  # no JPEG, or one that is not lengthened
        given, height = _rows_without_complaint(file)
        return given / height
    given, _ = _rows_without_complaint(taller.file)
    return min(1.0, max(0, given - taller.lag) / taller.rows)


def has_data_left(file: bytes) -> bool:
    """Whether a JPEG's picture is full before its data end: then bits were wrong on the way, which no decoder tells.

    A whole JPEG has none to spare: without its last bytes the decoder must complain.
    """
    try:
        _, start = jpeg_blocks(file)
    except ValueError:
        return False
    markers = (found for found in _MARKER_IN_DATA.finditer(file, start + 2) if found[0] == END_OF_JPEG)
    end = next((found.start() for found in markers), None)
    if end is None or end - start < 2 * SPARE_BYTES:
        return False
    return whole_rows(file[:end].rstrip(b"\xff")[:-SPARE_BYTES] + END_OF_JPEG) == 1.0


def _rows_without_complaint(file: bytes) -> tuple[int, int]:
    """How many rows libvips has given by then, and of how many; it speaks of a JPEG's rows with the next ones only."""
    row, height = 0, 1
    try:
        image = image_of(file, "warning")
        region, height = libvips().Region.new(image), image.height
        while row < image.height:
            rows = min(_STEP_ROWS, image.height - row)
            region.fetch(0, row, image.width, rows)
            row += rows
    except libvips().Error:
        return row, height
    return row, height


class _Taller(NamedTuple):
    file: bytes
    rows: int  # for which there are data, in whole units
    lag: int  # rows that are given before a complaint about the ones before them is heard


def _taller(file: bytes) -> _Taller:
    """A JPEG that claims some more rows than it has data for, without what is beside the picture.

    A progressive one claims what it has: it is read as a whole before its first row is given.

    Complaints about its last rows are heard then, too.

    Raises:
        ValueError: it is no JPEG, of a rare kind, or as tall as can be.
    """
    blocks, scan = jpeg_blocks(file)
    frame = next((block for block in blocks if block.kind[0] in _FRAMES), None)
    if frame is None or len(frame.data) < 9:
        raise ValueError("not to be lengthened")
    samplings = frame.data[7::3]
    unit = 8 * max(sampling & 15 for sampling in samplings)
    if unit > 8 and max(sampling >> 4 for sampling in samplings) == 1:
        raise ValueError("not to be lengthened")
    rows = -(-int.from_bytes(frame.data[1:3], "big") // unit) * unit
    if not 0 < rows <= _MOST_ROWS - _EXTRA_ROWS:
        raise ValueError("not to be lengthened")
    progressive = frame.kind[0] in _PROGRESSIVE
    height = (rows + _EXTRA_ROWS).to_bytes(2, "big")
    lengthened = frame if progressive else Block(frame.kind, frame.data[:1] + height + frame.data[3:])
    needed = [
        lengthened if block is frame else block for block in blocks if block.kind[0] < 0xE0 or block.kind[0] == _ADOBE
    ]
    rows = int.from_bytes(frame.data[1:3], "big") if progressive else rows
    lag = (
        _STEP_ROWS if unit == 8 and not progressive else 0
    )  # where colours have half the rows, the decoder reads ahead
    return _Taller(b"".join([file[:2], *map(jpeg_block, needed), file[scan:]]), rows, lag)
