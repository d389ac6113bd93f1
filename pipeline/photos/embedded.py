"""What a photo file says of what it shows: curators' captions in XMP, IPTC and EXIF."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

from pipeline.photos.header import FORMATS

IPTC_CAPTION = (2, 120)
IPTC_CHARACTER_SET = (1, 90)
UTF8_MARK = b"\x1b%G"  # of ISO 2022, as IPTC-IIM wants it
XP_COMMENT = 0x9C9C
USER_COMMENT = 0x9286
LONGEST = 2000  # characters; CLIP takes some 300

_DC, _RDF = "{http://purl.org/dc/elements/1.1/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# Cameras, scanners and editors leave these; none says what a photo shows.
_NOT_A_CAPTION = re.compile(
    r"(?:olympus|sony|nikon|canon|kodak|minolta|konica|samsung|casio|fujifilm|panasonic|pentax)?\s*"
    r"(?:digital (?:still )?camera|dsc|dcim\\?\S*|scan(?:ned)? (?:image|document)?|screenshot|untitled(?:[- ]\d+)?|"
    r"default|image|created with gimp|file written by adobe photoshop\S*|ascii|\?+|-+|\d+)\W*",
    re.IGNORECASE,
)


def description(file: Any) -> str:
    """The description in a photo file's metadata as one line; empty if there is none.

    XMP (`dc:description`) before IPTC (caption) before EXIF (image description, user comment, Windows' comment), as the
    Metadata Working Group advises readers. What cameras write there of themselves does not count.

    Args:
        file: binary and seekable; only the parts that hold metadata are read, of most formats.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            return next((text for text in map(_tidy, _texts(image)) if text), "")
    except Exception:  # decoders raise nearly anything on damaged files; what is wrong with it, decoding it will say
        return ""


def _texts(image: ImageFile.ImageFile) -> Iterator[str]:
    for read in (_xmp, _iptc, _exif):
        try:
            found = list(read(image))
        except Exception:  # one damaged block does not hide the others
            continue
        yield from found


def _tidy(text: str) -> str:
    line = " ".join(text.replace("\0", " ").split())[:LONGEST].strip()
    return "" if _NOT_A_CAPTION.fullmatch(line) else line


def _xmp(image: ImageFile.ImageFile) -> Iterator[str]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or _tiff_tag(image, 700) or b""
    data = packet.encode() if isinstance(packet, str) else bytes(packet)
    start, end = data.find(b"<x:xmpmeta"), data.rfind(b"</x:xmpmeta>")
    data = data[start : end + len(b"</x:xmpmeta>")] if 0 <= start < end else data.strip(b"\0 \n")
    if not data or b"<!ENTITY" in data:  # no metadata needs it, and it can be made to fill the memory
        return
    for holder in ElementTree.fromstring(data).iter(f"{_DC}description"):
        items = list(holder.iter(f"{_RDF}li"))
        items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
        yield from (item.text or "" for item in items) if items else [holder.text or ""]


def _iptc(image: ImageFile.ImageFile) -> Iterator[str]:
    found = IptcImagePlugin.getiptcinfo(image) or {}
    value = found.get(IPTC_CAPTION, b"")
    for data in value if isinstance(value, list) else [value]:
        yield _decoded(data, utf8=found.get(IPTC_CHARACTER_SET) == UTF8_MARK)


def _exif(image: ImageFile.ImageFile) -> Iterator[str]:
    exif = image.getexif()
    yield _text(exif.get(ExifTags.Base.ImageDescription, ""))
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(USER_COMMENT, b"")
    if isinstance(comment, bytes):
        mark, rest = comment[:8], comment[8:]
        if mark.startswith(b"UNICODE"):
            yield _utf16(rest)
        elif mark.startswith(b"ASCII") or not mark.strip(b"\0"):
            yield _decoded(rest)
    else:
        yield _text(comment)
    windows = exif.get(XP_COMMENT, b"")
    if isinstance(windows, tuple):
        windows = bytes(windows)
    yield windows.decode("utf-16-le", "replace") if isinstance(windows, bytes) else _text(windows)


def _text(value: Any) -> str:
    """EXIF's text: Pillow reads it as Latin-1, but nearly everybody writes UTF-8."""
    if isinstance(value, bytes):
        return _decoded(value)
    text = str(value)
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _utf16(data: bytes) -> str:
    """Writers do not agree on the order of bytes; those that tell alphabets apart vary less than the others."""
    order = "utf-16-be" if len(set(data[::2])) < len(set(data[1::2])) else "utf-16-le"
    return data.decode(order, "replace").lstrip("\ufeff\ufffe")


def _decoded(data: bytes, utf8: bool = False) -> str:
    for encoding in ("utf-8",) if utf8 else ("utf-8", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def _tiff_tag(image: ImageFile.ImageFile, tag: int) -> Any:
    return getattr(image, "tag_v2", {}).get(tag)
