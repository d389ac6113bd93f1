"""IPTC-IIM, as it lies in Photoshop's resources: kept in JPEG and TIFF, mapped to XMP elsewhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator

RESOURCE_MARK = b"8BIM"
PHOTOSHOP = b"Photoshop 3.0\0"  # begins the segments of a JPEG that hold resources
IPTC = 0x0404
_STALE = (0x03ED, 0x0409, 0x040C)  # resolution and thumbnails
UTF8_MARK = b"\x1b%G"  # of ISO 2022, in (1, 90)

SINGLE, LIST, LOCALISED, ORDERED = "single", "Bag", "Alt", "Seq"
XMP_FIELDS = {
    5: ("dc:title", LOCALISED),
    25: ("dc:subject", LIST),
    40: ("photoshop:Instructions", SINGLE),
    55: ("photoshop:DateCreated", SINGLE),
    80: ("dc:creator", ORDERED),
    85: ("photoshop:AuthorsPosition", SINGLE),
    90: ("photoshop:City", SINGLE),
    92: ("Iptc4xmpCore:Location", SINGLE),
    95: ("photoshop:State", SINGLE),
    101: ("photoshop:Country", SINGLE),
    103: ("photoshop:TransmissionReference", SINGLE),
    105: ("photoshop:Headline", SINGLE),
    110: ("photoshop:Credit", SINGLE),
    115: ("photoshop:Source", SINGLE),
    116: ("dc:rights", LOCALISED),
    120: ("dc:description", LOCALISED),
    122: ("photoshop:CaptionWriter", SINGLE),
}
"""Datasets of record 2 -> XMP properties and their kind, as IPTC's photo metadata standard pairs them."""


def resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Photoshop's resources: number and content, as far as they are whole."""
    at = 0
    while data[at : at + 4] == RESOURCE_MARK and at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name = 1 + data[at + 6]
        start = at + 6 + name + name % 2
        size = int.from_bytes(data[start : start + 4], "big")
        yield number, data[start + 4 : start + 4 + size]
        at = start + 4 + size + size % 2


def carried(data: bytes, iptc: bytes | None = None) -> bytes:
    """Resources without those that tell of the photo's pixels.

    Args:
        data: resources.
        iptc: datasets that lie outside of them, as in TIFF.
    """
    kept = [(number, content) for number, content in resources(data) if number not in _STALE]
    if iptc and not any(number == IPTC for number, _ in kept):
        kept.append((IPTC, iptc))
    return b"".join(
        RESOURCE_MARK + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)
        for number, content in kept
    )


def of(data: bytes) -> bytes | None:
    """The IPTC datasets within resources."""
    return next((content for number, content in resources(data) if number == IPTC), None)


def texts(iptc: bytes) -> dict[int, list[str]]:
    """What the datasets of record 2 say that XMP has a property for."""
    found: dict[int, list[str]] = {}
    encoding, at = "", 0
    while at + 5 <= len(iptc) and iptc[at] == 0x1C:
        record, number, size = struct.unpack_from(">BBH", iptc, at + 1)
        if size & 0x8000:  # longer than anything that is text
            break
        content = iptc[at + 5 : at + 5 + size]
        if (record, number) == (1, 90):
            encoding = "utf-8" if content == UTF8_MARK else ""
        elif record == 2 and number in XMP_FIELDS:
            found.setdefault(number, []).append(_text(content, encoding))
        at += 5 + size
    if 55 in found:
        found[55] = [f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 else day for day in found[55]]
    return found


def _text(content: bytes, encoding: str) -> str:
    for name in (encoding, "utf-8", "cp1252"):
        try:
            return content.decode(name) if name else content.decode("utf-8")
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")
