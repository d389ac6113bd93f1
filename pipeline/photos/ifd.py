"""TIFF's directories of tags, which EXIF uses, too: read from a file, written as bytes. Classic TIFF and BigTIFF."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
EXIF, GPS, INTEROP, SUB_IFDS = 34665, 34853, 0xA005, 330
"""Tags whose value is where another directory lies."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNITS = {3: 2, 8: 2, 4: 4, 9: 4, 11: 4, 13: 4, 5: 4, 10: 4, 12: 8, 16: 8, 17: 8, 18: 8}  # that byte order turns
_INTEGERS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
MAX_ENTRIES = 4096
MAX_VALUE_BYTES = 64 * 2**20


class Entry(NamedTuple):
    """One tag."""

    tag: int
    kind: int
    items: int
    data: bytes  # in the byte order of where it comes from


class Layout(NamedTuple):
    """How the numbers of a file are written."""

    order: str  # `<` or `>`
    big: bool  # BigTIFF

    @property
    def address(self) -> str:
        """The struct code of an offset."""
        return "Q" if self.big else "I"

    @property
    def head(self) -> int:
        """Where the offset of the first directory stands."""
        return 8 if self.big else 4


def read_layout(file: Any) -> tuple[Layout, int]:
    """How a TIFF file or EXIF block is written, and where its first directory lies.

    Raises:
        ValueError: it is neither.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF")
    (magic,) = struct.unpack(order + "H", head[2:4])
    if magic not in (42, 43) or (magic == 43 and len(head) < 16):
        raise ValueError("no TIFF")
    layout = Layout(order, magic == 43)
    (first,) = struct.unpack_from(order + layout.address, head, layout.head)
    return layout, first


def read_directory(file: Any, layout: Layout, offset: int) -> tuple[list[Entry], int]:
    """The tags of a directory whose values are all there, and where the next one lies (0: nowhere).

    Raises:
        ValueError: there is no directory there.
    """
    order, address = layout.order, layout.address
    count_code, width, inline = ("Q", 20, 8) if layout.big else ("H", 12, 4)
    file.seek(offset)
    count_bytes = file.read(struct.calcsize(count_code))
    if len(count_bytes) < struct.calcsize(count_code):
        raise ValueError("a directory beyond the end of the file")
    (count,) = struct.unpack(order + count_code, count_bytes)
    block = file.read(count * width + inline) if count <= MAX_ENTRIES else b""
    if len(block) < count * width:
        raise ValueError("a damaged directory")
    entries = []
    for start in range(0, count * width, width):
        tag, kind, items = struct.unpack_from(order + "HH" + address, block, start)
        size, data = _SIZES.get(kind, 0) * items, block[start + width - inline : start + width]
        if size > MAX_VALUE_BYTES:
            continue
        if size > inline:
            file.seek(struct.unpack(order + address, data)[0])
            data = file.read(size)
        if size and len(data) >= size:
            entries.append(Entry(tag, kind, items, data[:size]))
    following = block[count * width : count * width + inline]
    return entries, struct.unpack(order + address, following)[0] if len(following) == inline else 0


def numbers(entry: Entry, order: str) -> list[int]:
    """The integers of a tag; none if it holds something else."""
    code = _INTEGERS.get(entry.kind)
    return list(struct.unpack(f"{order}{entry.items}{code}", entry.data)) if code else []


def number(entries: Iterable[Entry], tag: int, order: str, default: int = 0) -> int:
    """The first integer of a tag, if it is there."""
    return next((values[0] for e in entries if e.tag == tag and (values := numbers(e, order))), default)


def value(entries: Iterable[Entry], tag: int) -> bytes | None:
    """The bytes of a tag, if it is there."""
    return next((entry.data for entry in entries if entry.tag == tag), None)


def integer(tag: int, kind: int, content: int, order: str) -> Entry:
    """A tag with one integer."""
    return Entry(tag, kind, 1, struct.pack(order + _INTEGERS[kind], content))


def rational(tag: int, content: float, order: str) -> Entry:
    """A tag with one fraction, to a thousandth."""
    return Entry(tag, RATIONAL, 1, struct.pack(order + "II", min(2**32 - 1, round(content * 1000)), 1000))


def turned(entry: Entry, order: str, other: str) -> Entry:
    """The tag in another byte order."""
    unit = _UNITS.get(entry.kind)
    if order == other or not unit:
        return entry
    words = (entry.data[start : start + unit] for start in range(0, len(entry.data), unit))
    return entry._replace(data=b"".join(word[::-1] for word in words))


def written(entries: Iterable[Entry], offset: int, layout: Layout, following: int = 0) -> bytes:
    """A directory and its values, to lie at an offset."""
    ordered = sorted(entries)
    order, address = layout.order, layout.address
    count_code, width, inline = ("Q", 20, 8) if layout.big else ("H", 12, 4)
    directory = bytearray(struct.pack(order + count_code, len(ordered)))
    values, start = bytearray(), offset + len(directory) + len(ordered) * width + inline
    for entry in ordered:
        directory += struct.pack(order + "HH" + address, entry.tag, entry.kind, entry.items)
        if len(entry.data) <= inline:
            directory += entry.data.ljust(inline, b"\0")
        else:
            directory += struct.pack(order + address, start + len(values))
            values += entry.data.ljust(-(-len(entry.data) // 8) * 8, b"\0")
    return bytes(directory + struct.pack(order + address, following) + values)
