"""Captions in photo files, as Pillow and hand-made blocks write them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from pipeline.photos.embedded import description
from pipeline.ranges import open_ranges
from pipeline.storage import Store
from tests.pipeline.photographs import picture

XMP = (
    '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>'
    '<rdf:li xml:lang="de">Eine Straße</rdf:li><rdf:li xml:lang="x-default">A street,\n 1910</rdf:li>'
    "</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
)


def exif(text: str | bytes = "", comment: bytes = b"", windows: str = "") -> Image.Exif:
    data = Image.Exif()
    if text:
        data[ExifTags.Base.ImageDescription] = text
    if comment:
        data.get_ifd(ExifTags.IFD.Exif)[0x9286] = comment
    if windows:
        data[0x9C9C] = windows.encode("utf-16-le") + b"\0\0"
    return data


def file(format_: str = "JPEG", iptc: bytes = b"", **options: object) -> io.BytesIO:
    out = io.BytesIO()
    picture(40, 60).save(out, format_, **options)
    data = out.getvalue()
    if iptc:  # in APP13, as Photoshop writes it
        body = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
        data = data[:2] + b"\xff\xed" + struct.pack(">H", len(body) + 2) + body + data[2:]
    return io.BytesIO(data)


def field(record: int, dataset: int, value: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, dataset, len(value)) + value


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_xmp(format_: str) -> None:
    options: dict[str, object] = {"xmp": XMP.encode()}
    if format_ == "TIFF":
        directory = TiffImagePlugin.ImageFileDirectory_v2()
        directory[700] = XMP.encode()
        options = {"tiffinfo": directory}
    if format_ == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP)
        options = {"pnginfo": info}
    assert description(file(format_, **options)) == "A street, 1910"


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_exif(format_: str) -> None:
    assert description(file(format_, exif=exif("The harbour, looking north"))) == "The harbour, looking north"


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (field(2, 120, "Straße".encode("cp1252")), "Straße"),
        (field(1, 90, b"\x1b%G") + field(2, 120, "Łódź".encode()), "Łódź"),
        (field(2, 120, "Łódź".encode()), "Łódź"),
        (field(2, 5, b"a title"), ""),
    ],
)
def test_iptc(block: bytes, expected: str) -> None:
    assert description(file(iptc=block)) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (exif("Straße".encode("cp1252")), "Straße"),
        (exif("Straße".encode()), "Straße"),
        (exif(comment=b"ASCII\0\0\0a comment\0\0"), "a comment"),
        (exif(comment=b"UNICODE\0" + "Łódź".encode("utf-16-le")), "Łódź"),
        (exif(comment=b"UNICODE\0" + "Łódź".encode("utf-16-be")), "Łódź"),
        (exif(comment=b"UNICODE\0" + "Москва, 1910".encode("utf-16")), "Москва, 1910"),
        (exif(comment=bytes(8) + b"  "), ""),
        (exif(windows="Łódź"), "Łódź"),
        (exif("the first", b"ASCII\0\0\0the second", "the third"), "the first"),
        (exif("OLYMPUS DIGITAL CAMERA", b"ASCII\0\0\0A garden"), "A garden"),
    ],
)
def test_texts_of_exif(data: Image.Exif, expected: str) -> None:
    assert description(file(exif=data)) == expected


def test_which_one_wins() -> None:
    iptc = field(2, 120, b"from IPTC")
    assert description(file(iptc=iptc, xmp=XMP.encode(), exif=exif("from EXIF"))) == "A street, 1910"
    assert description(file(iptc=iptc, exif=exif("from EXIF"))) == "from IPTC"


@pytest.mark.parametrize(
    "text",
    [
        "OLYMPUS DIGITAL CAMERA         ",
        "SONY DSC",
        "DCIM\\100MEDIA",
        "untitled",
        "Untitled-1",
        "Created with GIMP",
        "12",
    ],
)
def test_what_machines_write_is_no_caption(text: str) -> None:
    assert description(file(exif=exif(text))) == ""


@pytest.mark.parametrize("text", ["Canon of the cathedral", "Default on the loan, 1931", "Image of St. Anne", "7 men"])
def test_what_people_write_is_one(text: str) -> None:
    assert description(file(exif=exif(text))) == text


@pytest.mark.parametrize(
    "packet",
    [
        b"<x:xmpmeta",
        b"\xff\xfe",
        XMP.replace("</rdf:Alt>", "").encode(),
        b'<!DOCTYPE x [<!ENTITY a "ha">]>' + XMP.replace("A street,", "&a;").encode(),
    ],
)
def test_a_damaged_packet_does_not_hide_the_others(packet: bytes) -> None:
    assert description(file(xmp=packet, exif=exif("from EXIF"))) == "from EXIF"


@pytest.mark.parametrize("data", [b"", b"no picture", file().getvalue()[:40]])
def test_a_damaged_photo_has_none(data: bytes) -> None:
    assert description(io.BytesIO(data)) == ""


def test_long_texts_are_cut() -> None:
    assert len(description(file(exif=exif("word " * 5000)))) < 2001


def test_of_a_large_jpeg_only_the_head_is_read(tmp_path: Path) -> None:
    data = file(exif=exif("The harbour")).getvalue() + bytes(10**6)
    (tmp_path / "a.jpg").write_bytes(data)
    read: list[int] = []

    class Counted(Store):
        def read_range(self, path: str, start: int, end: int) -> bytes:
            read.append(end - start)
            return super().read_range(path, start, end)

    with open_ranges(Counted(str(tmp_path)), "a.jpg", len(data)) as opened:
        assert description(opened) == "The harbour"
    assert sum(read) <= 2 * 2**16
