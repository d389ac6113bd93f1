"""EXIF blocks: taken as they lie in a file, corrected in place, or rebuilt from and appended to a TIFF's directories.

In place nothing moves, so camera makers' notes, which hold offsets of their own, stay intact to the byte.
"""

from __future__ import annotations

import io
import struct

from pipeline.photos import ifd
from pipeline.photos.ifd import Entry, Layout

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, NO_UNIT, INCH = 274, 282, 283, 296, 1, 2
COLOUR_SPACE, MAKER_NOTE, SRGB = 0xA001, 0x927C, 1
# Tags that say how pixels are stored, or hold what is carried by other ways: XMP, IPTC, Photoshop's, the profile.
_OF_STORAGE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293, 297}
    | {301, 317, 318, 319, *range(320, 326), ifd.SUB_IFDS, 332, 333, 334, 336, 338, 339, 340, 341, 342, 343, 347}
    | {*range(512, 522), *range(529, 533), 559, 700, 33550, 33723, 33922, 34264, 34377, 34675, 50341}
    | {ifd.EXIF, ifd.GPS}
)  # fmt: skip


def corrected(block: bytes, height: int, width: int, scale: float) -> bytes:
    """The block of a photo for its result.

    It is upright, of so many pixels, of the same physical size, in sRGB, and the thumbnail is cut off.

    Args:
        block: classic TIFF, as EXIF is.
        height: of the result, pixels.
        width: of the result, pixels.
        scale: of the result against the photo.

    Raises:
        ValueError: the block is damaged.
    """
    data = bytearray(block)
    layout, first = ifd.read_layout(io.BytesIO(block))
    new = {256: width, 257: height, 0xA002: width, 0xA003: height, ORIENTATION: 1, COLOUR_SPACE: SRGB}
    try:
        _correct(data, layout.order, first, new, scale)
    except struct.error as error:
        raise ValueError("a damaged directory") from error
    return bytes(data)


def _correct(data: bytearray, order: str, start: int, new: dict[int, int], scale: float) -> None:
    (count,) = struct.unpack_from(order + "H", data, start)
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, items, value = struct.unpack_from(order + "HHII", data, at)
        if tag in new and items == 1 and kind in (ifd.SHORT, ifd.LONG):
            if new[tag] > 65535:
                struct.pack_into(order + "H", data, at + 2, ifd.LONG)
                kind = ifd.LONG
            struct.pack_into(order + ("I" if kind == ifd.LONG else "HH"), data, at + 8, *_padded(kind, new[tag]))
        elif tag in (X_RESOLUTION, Y_RESOLUTION) and kind == ifd.RATIONAL:
            above, below = struct.unpack_from(order + "II", data, value)
            if tag == X_RESOLUTION or value != _value_of(data, order, start, count, X_RESOLUTION):
                struct.pack_into(order + "II", data, value, *_fraction(above * scale, below))
        elif tag in (ifd.EXIF, ifd.INTEROP) and kind == ifd.LONG and 0 < value < len(data):
            _correct(data, order, value, new, scale)
        elif tag == 1 and data[at + 8 : at + 11] == b"R03":  # Adobe RGB
            data[at + 8 : at + 11] = b"R98"
    if start + 2 + 12 * count + 4 <= len(data):
        struct.pack_into(order + "I", data, start + 2 + 12 * count, 0)  # no thumbnail


def _padded(kind: int, value: int) -> tuple[int, ...]:
    return (value,) if kind == ifd.LONG else (value, 0)


def _fraction(above: float, below: int) -> tuple[int, int]:
    if below == 1 and above != round(above):
        above, below = above * 1000, 1000
    return min(2**32 - 1, round(above)), below


def _value_of(data: bytearray, order: str, start: int, count: int, wanted: int) -> int | None:
    """The offset of a tag's value; both resolutions may share one."""
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, _, _, value = struct.unpack_from(order + "HHII", data, at)
        if tag == wanted:
            return int(value)
    return None


def from_tiff(file: bytes) -> bytes | None:
    """An EXIF block of what a TIFF file says of itself; None if it says nothing."""
    source = io.BytesIO(file)
    layout, first = ifd.read_layout(source)
    root, _ = ifd.read_directory(source, layout, first)
    inner = _inner(source, layout, root)
    own = [entry for entry in root if entry.tag not in _OF_STORAGE and entry.kind < ifd.LONG8]
    return built(own, inner, layout.order) if own or inner else None


def with_resolution(block: bytes | None, dpi: tuple[float, float]) -> bytes:
    """The block with a resolution, if it lacks one and nothing in it is tied to its place."""
    resolution = _resolution(dpi, INCH, "<")
    if block is None:
        return built(resolution, {}, "<")
    source = io.BytesIO(block)
    layout, first = ifd.read_layout(source)
    root, _ = ifd.read_directory(source, layout, first)
    inner = _inner(source, layout, root)
    fixed = any(entry.tag == MAKER_NOTE for entry in inner.get(ifd.EXIF, ()))
    if fixed or any(entry.tag == X_RESOLUTION for entry in root):
        return block
    own = [entry for entry in root if entry.tag not in (ifd.EXIF, ifd.GPS)]
    return built([*own, *(ifd.turned(entry, "<", layout.order) for entry in resolution)], inner, layout.order)


def _resolution(values: tuple[float, float], unit: int, order: str) -> list[Entry]:
    return [
        ifd.rational(X_RESOLUTION, values[0], order),
        ifd.rational(Y_RESOLUTION, values[1], order),
        ifd.integer(RESOLUTION_UNIT, ifd.SHORT, unit, order),
    ]


def _inner(source: io.BytesIO, layout: Layout, root: list[Entry]) -> dict[int, list[Entry]]:
    """The directories within: EXIF's, GPS's and, by EXIF's, the one of interoperability."""
    found: dict[int, list[Entry]] = {}
    entries = list(root)
    for tag in (ifd.EXIF, ifd.GPS, ifd.INTEROP):
        offset = ifd.number(entries, tag, layout.order)
        try:
            found[tag] = ifd.read_directory(source, layout, offset)[0] if offset else []
        except ValueError:
            found[tag] = []
        if tag == ifd.EXIF:
            entries += found[tag]
    return {tag: [e for e in inner if e.tag != ifd.INTEROP] for tag, inner in found.items() if inner}


def built(root: list[Entry], inner: dict[int, list[Entry]], order: str) -> bytes:
    """A block of these tags; `inner` holds directories by the tag that names their place."""
    layout, places = Layout(order, big=False), dict.fromkeys(inner, 0)
    for _ in range(2):  # the first time for the lengths
        at, body = 8, b""
        for tag, entries in {0: root, **inner}.items():
            owned = [t for t in inner if (t == ifd.INTEROP) == (tag == ifd.EXIF) and tag in (0, ifd.EXIF)]
            pointers = [ifd.integer(t, ifd.LONG, places[t], order) for t in owned]
            part = ifd.written([*entries, *pointers], at, layout)
            places[tag], at, body = at, at + len(part), body + part
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8) + body


def append_to_tiff(
    file: io.BytesIO, block: bytes | None, dpi: tuple[float, float] | None, extra: list[tuple[int, int, bytes]]
) -> None:
    """Add tags to a finished TIFF file: a new first directory at its end; pixels stay where they are.

    Args:
        file: classic TIFF or BigTIFF.
        block: EXIF.
        dpi: the resolution where EXIF has none; without it the file says that there is none, whatever its writer put.
        extra: more tags for the first directory: number, kind, bytes.
    """
    layout, first = ifd.read_layout(file)
    root, following = ifd.read_directory(file, layout, first)
    resolution = _resolution(dpi or (1.0, 1.0), INCH if dpi else NO_UNIT, layout.order)
    added = {entry.tag: entry for entry in resolution}
    added |= {tag: Entry(tag, kind, len(data), data) for tag, kind, data in extra}
    if block is not None:
        source = io.BytesIO(block)
        theirs, start = ifd.read_layout(source)
        told, _ = ifd.read_directory(source, theirs, start)
        inner = _inner(source, theirs, told)
        kept = {entry.tag for entry in root} - {entry.tag for entry in resolution}
        for entry in told:
            if entry.tag not in _OF_STORAGE | kept:
                added[entry.tag] = ifd.turned(entry, theirs.order, layout.order)
        kind = ifd.LONG8 if layout.big else ifd.LONG
        for tag in (ifd.INTEROP, ifd.EXIF, ifd.GPS):
            if tag in inner:
                entries = [ifd.turned(entry, theirs.order, layout.order) for entry in inner[tag]]
                if tag == ifd.EXIF and ifd.INTEROP in added:
                    entries.append(added.pop(ifd.INTEROP))
                added[tag] = ifd.integer(tag, kind, _appended(file, entries, layout), layout.order)
    place = _appended(file, [*(entry for entry in root if entry.tag not in added), *added.values()], layout, following)
    file.seek(layout.head)
    file.write(struct.pack(layout.order + layout.address, place))


def _appended(file: io.BytesIO, entries: list[Entry], layout: Layout, following: int = 0) -> int:
    place = file.seek(0, io.SEEK_END)
    place += file.write(b"\0" * (-place % 8))
    file.write(ifd.written(entries, place, layout, following))
    return place
