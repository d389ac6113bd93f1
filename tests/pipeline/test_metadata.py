"""Metadata from each format into each, judged by exiftool, which reads files by its own rules."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.photos import exif, ifd
from pipeline.photos.encode import FORMATS, encode
from pipeline.photos.metadata import Metadata, Result, finished, read_metadata
from pipeline.photos.xmp import MADE_WITH_AI, SPACES, Provenance, with_provenance
from tests.pipeline.photographs import encoded, picture

needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="needs exiftool: infra/test-tools.sh")
STORY = Provenance("ab" * 32, "faithful-0123456789ab", "fedcba987654", 1234, "a garden")
MAKER_NOTE = b"MAKERNOTE\0" + bytes(range(256)) * 3
WRITTEN = {
    "EXIF:Artist": "Jürgen Müller",
    "EXIF:Copyright": "© 1938 Größe, 写真",
    "EXIF:ImageDescription": "Straße in Łódź",
    "EXIF:Make": "Zeiss",
    "EXIF:Model": "Ikon",
    "EXIF:DateTimeOriginal": "1938:07:01 12:00:00",
    "EXIF:CreateDate": "1999:07:01 12:00:00",
    "EXIF:FNumber": "5.6",
    "EXIF:ExposureTime": "1/125",
    "EXIF:ISO": "100",
    "EXIF:UserComment": "a note",
    "EXIF:Orientation#": "6",
    "EXIF:XResolution": "600",
    "EXIF:YResolution": "600",
    "EXIF:ResolutionUnit": "inches",
    "EXIF:GPSLatitude": "51.5",
    "EXIF:GPSLatitudeRef": "N",
    "EXIF:GPSLongitude": "19.25",
    "EXIF:GPSLongitudeRef": "E",
    "EXIF:GPSAltitude": "200",
    "EXIF:InteropIndex": "R98",
    "XMP-dc:Title": "Tïtle",
    "XMP-dc:Subject": "street",
    "XMP-xmp:Rating": "4",
    "XMP-xmpRights:Marked": "True",
    "XMP-xmpMM:DocumentID": "xmp.did:original",
    "XMP-photoshop:City": "Łódź",
    "XMP-tiff:Orientation#": "6",
}
IPTC = {
    "IPTC:CodedCharacterSet": "UTF8",
    "IPTC:Caption-Abstract": "Légende",
    "IPTC:By-line": "Müller",
    "IPTC:Keywords": "Größe",
    "IPTC:Headline": "headline",
    "IPTC:CopyrightNotice": "© somebody",
    "IPTC:SpecialInstructions": "handle with care",
}
IN_XMP = {
    "IPTC:Caption-Abstract": "XMP-dc:Description",
    "IPTC:By-line": "XMP-dc:Creator",
    "IPTC:Keywords": "XMP-dc:Subject",
    "IPTC:Headline": "XMP-photoshop:Headline",
    "IPTC:CopyrightNotice": "XMP-dc:Rights",
    "IPTC:SpecialInstructions": "XMP-photoshop:Instructions",
}
CHANGED = {  # on purpose, each with a check of its own
    "Orientation",
    "XResolution",
    "YResolution",
    "ExifImageWidth",
    "ExifImageHeight",
    "DocumentID",
    "ColorSpace",
    "ExifByteOrder",
    "XMPToolkit",
    "ExifVersion",
    "ComponentsConfiguration",
    "FlashpixVersion",
    "YCbCrPositioning",
}
STORED = {"ImageWidth", "ImageHeight", "BitsPerSample", "Compression", "PhotometricInterpretation", "StripOffsets"}
STORED |= {"SamplesPerPixel", "RowsPerStrip", "StripByteCounts", "PlanarConfiguration", "SubfileType", "Predictor"}
STORED |= {"SampleFormat", "ThumbnailOffset", "ThumbnailLength", "ThumbnailImage", "ExtraSamples"}
GROUPS = ("IFD0", "ExifIFD", "GPS", "InteropIFD", "IPTC", "XMP-", "MakerNotes")
HEIGHT, WIDTH, SCALE = 80, 112, 2.0


def exiftool(*words: str | Path) -> str:
    return subprocess.run(
        ["exiftool", "-charset", "utf8", *map(str, words)], check=True, capture_output=True, text=True
    ).stdout


def tags(paths: list[Path]) -> list[dict[str, Any]]:
    """What exiftool says of files: `group:name` -> value."""
    found = json.loads(exiftool("-json", "-G1", "-a", "-n", *paths))
    order = {str(one["SourceFile"]): one for one in found}
    return [order[str(path)] for path in paths]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One photo per format, with everything that it can hold; the JPEG also has a maker's note and a thumbnail."""
    folder = tmp_path_factory.mktemp("sources")
    note = ifd.Entry(exif.MAKER_NOTE, ifd.UNDEFINED, len(MAKER_NOTE), MAKER_NOTE)
    block = exif.built([], {ifd.EXIF: [note]}, "<")
    made = {}
    for name, chosen in FORMATS.items():
        path = folder / f"a.{chosen.extension}"
        options = {"exif": b"Exif\0\0" + block} if name == "jpeg" else {}
        path.write_bytes(encoded(picture(40, 56), chosen.pillow_name, **options))
        words = WRITTEN | (IPTC if name in ("jpeg", "tiff") else {})
        thumbnail = folder / "thumbnail.jpg"
        thumbnail.write_bytes(encoded(picture(20, 28)))
        extra = [f"-ThumbnailImage<={thumbnail}"] if name == "jpeg" else []
        exiftool("-overwrite_original", "-q", *(f"-{tag}={value}" for tag, value in words.items()), *extra, path)
        made[name] = path.read_bytes()
    return made


@pytest.fixture(scope="module")
def results(sources: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """What exiftool says of each source and of what becomes of it in each format."""
    folder = tmp_path_factory.mktemp("results")
    image = np.zeros((3, HEIGHT, WIDTH), np.float32)
    paths: dict[tuple[str, str], Path] = {}
    for source, data in sources.items():
        paths[source, ""] = folder / f"{source}.{FORMATS[source].extension}"
        paths[source, ""].write_bytes(data)
        carried = read_metadata(data, FORMATS[source].pillow_name)
        for name, chosen in FORMATS.items():
            for bits in (8, 16) if chosen.deep and source == "tiff" else (8,):
                file = encode(image, name, bits=bits)
                done, lost = finished(file, name, carried, Result(HEIGHT, WIDTH, SCALE, grey=False), STORY)
                assert lost == []
                Image.open(io.BytesIO(done)).load()
                paths[source, f"{name}{bits}"] = folder / f"{source}-{bits}.to.{chosen.extension}"
                paths[source, f"{name}{bits}"].write_bytes(done)
    return dict(zip(paths, tags(list(paths.values())), strict=True))


def carried_tags(said: dict[str, Any]) -> dict[str, Any]:
    names = {key: key.partition(":") for key in said}
    return {
        key: said[key]
        for key, (group, _, name) in names.items()
        if group.startswith(GROUPS) and name not in CHANGED | STORED
    }


def place_of(key: str, target: str) -> str | None:
    """The tag that must hold what this one held; None if there need be none."""
    return IN_XMP.get(key) if key.startswith("IPTC:") and target in ("png", "webp") else key


def holds(found: Any, wanted: Any) -> bool:
    """Whether a tag has a value; a list may have more."""
    return found == wanted or (isinstance(found, list) and wanted in found)


PAIRS = [(a, b) for a in FORMATS for b in FORMATS]


@needs_exiftool
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_no_tag_is_lost(results: dict[tuple[str, str], Any], source: str, target: str) -> None:
    before = carried_tags(results[source, ""])
    assert len(before) > 20
    for (one, name), after in results.items():
        if one == source and name.startswith(target):
            places = {key: place for key in before if (place := place_of(key, target))}
            lost = {key for key, place in places.items() if not holds(after.get(place), before[key])}
            moved = sum(key != place for key, place in places.items())
            print(f"{source:5} -> {name:7} {len(places)} tags, {moved} of them as XMP, {len(lost)} lost")
            assert not lost


@needs_exiftool
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_what_is_said_of_the_pixels_is_true_of_the_result(
    results: dict[tuple[str, str], Any], source: str, target: str
) -> None:
    after = results[source, f"{target}8"]
    assert after.get("IFD0:Orientation", 1) == 1 and after["XMP-tiff:Orientation"] == 1
    assert after["IFD0:XResolution"] == after["IFD0:YResolution"] == pytest.approx(1200, abs=0.1)
    assert after["IFD0:ResolutionUnit"] == 2
    for key in ("ExifIFD:ExifImageWidth", "File:ImageWidth", "PNG:ImageWidth"):
        assert after.get(key, WIDTH) == WIDTH
    assert not any("Thumbnail" in key for key in after)
    assert after["ICC_Profile:ProfileDescription"].startswith("sRGB")
    assert {value for key, value in after.items() if "Warning" in key} <= {"[minor] Unrecognized MakerNotes"}


@needs_exiftool
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_results_say_that_a_model_made_them(results: dict[tuple[str, str], Any], source: str, target: str) -> None:
    after = results[source, f"{target}8"]
    assert after["XMP-iptcExt:DigitalSourceType"] == MADE_WITH_AI
    assert after["XMP-xmpMM:DocumentID"] == f"xmp.did:{STORY.document}"
    assert after["XMP-xmpMM:DerivedFromDocumentID"] == after["XMP-xmpMM:OriginalDocumentID"] == "xmp.did:original"
    assert after["XMP-xmpMM:HistoryAction"] == "edited"
    assert after["XMP-xmpMM:HistorySoftwareAgent"].startswith("supir ")
    assert STORY.preset in after["XMP-xmpMM:HistoryParameters"]


@needs_exiftool
@pytest.mark.parametrize("target", FORMATS)
def test_a_makers_note_is_intact(sources: dict[str, bytes], target: str) -> None:
    carried = read_metadata(sources["jpeg"], "JPEG")
    file = encode(np.zeros((3, HEIGHT, WIDTH), np.float32), target)
    done, _ = finished(file, target, carried, Result(HEIGHT, WIDTH, SCALE, grey=False), STORY)
    assert MAKER_NOTE in done
    if target != "tiff":  # at its very place, as it may hold offsets
        again = read_metadata(done, FORMATS[target].pillow_name).exif
        assert again is not None and carried.exif is not None and len(again) == len(carried.exif)
        assert again.index(MAKER_NOTE) == carried.exif.index(MAKER_NOTE)


def block(order: str, **numbers: int) -> bytes:
    entries = [ifd.integer(exif.ORIENTATION, ifd.SHORT, 6, order), ifd.rational(exif.X_RESOLUTION, 72.5, order)]
    inner = [ifd.integer(0xA002, ifd.SHORT, 4000, order), ifd.integer(exif.COLOUR_SPACE, ifd.SHORT, 65535, order)]
    return exif.built(entries, {ifd.EXIF: inner}, order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sides_beyond_sixteen_bits_are_widened_in_place(order: str) -> None:
    before = block(order)
    after = exif.corrected(before, 500, 70000, 2.0)
    assert len(after) == len(before)
    with Image.open(io.BytesIO(encoded(picture(), exif=b"Exif\0\0" + after))) as image:
        told = image.getexif()
        assert (told[exif.ORIENTATION], told[exif.X_RESOLUTION]) == (1, 145)
        assert told.get_ifd(ifd.EXIF) == {0xA002: 70000, exif.COLOUR_SPACE: exif.SRGB}


@pytest.mark.parametrize("packet", [b"junk", b"<x:xmpmeta><rdf:RDF></x:xmpmeta>", b"<!DOCTYPE a><rdf:RDF></rdf:RDF>"])
def test_a_broken_packet_is_said_and_replaced(packet: bytes) -> None:
    file = encode(np.zeros((3, HEIGHT, WIDTH), np.float32), "png")
    done, lost = finished(file, "png", Metadata(xmp=packet), Result(HEIGHT, WIDTH, 1.0, grey=True), STORY)
    assert len(lost) == 1 and lost[0].startswith("metadata-lost: ")
    assert MADE_WITH_AI.encode() in done


def test_entities_are_refused() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "x">]><x:xmpmeta xmlns:x="adobe:ns:meta/"><!ENTITY b "x"></x:xmpmeta>'
    with pytest.raises(ValueError, match="packet"):
        with_provenance(bomb, STORY, 1, 1, 1.0, {})


def test_the_history_goes_on_and_strange_prefixes_stay() -> None:
    seen = (
        f'<x:xmpmeta xmlns:x="{SPACES["x"]}"><rdf:RDF xmlns:rdf="{SPACES["rdf"]}"><rdf:Description rdf:about="me" '
        'xmlns:odd="urn:odd" odd:kept="yes"/></rdf:RDF></x:xmpmeta>'
    )
    once = with_provenance(seen.encode(), STORY, 10, 10, 2.0, {})
    twice = with_provenance(once, STORY, 20, 20, 2.0, {})
    assert twice.count(b">supir ") == 2 + 1, "events, and the system's version"
    assert b'odd:kept="yes"' in twice and twice.count(b'rdf:about="me"') == 3
    assert with_provenance(once, STORY, 20, 20, 2.0, {}) == twice


def test_documents_are_named_by_what_they_are_made_of() -> None:
    other = Provenance("ab" * 32, "faithful-0123456789ab", "fedcba987654", 1234, "a street")
    assert STORY.document != other.document
    assert STORY.document == Provenance(*STORY.__dict__.values()).document


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_damaged_metadata_cost_nothing_else(name: str) -> None:
    data = encoded(picture(), name, exif=b"Exif\0\0" + block("<"))
    start = data.find(b"II*\0\x08\0\0\0", 20) if name != "TIFF" else 0
    if name != "TIFF":
        data = data[: start + 8] + struct.pack("<H", 60000) + data[start + 10 :]
    carried = read_metadata(data, name)
    file = encode(np.zeros((3, HEIGHT, WIDTH), np.float32), "jpeg")
    done, lost = finished(file, "jpeg", carried, Result(HEIGHT, WIDTH, 2.0, grey=False), STORY)
    assert Image.open(io.BytesIO(done)).size == (WIDTH, HEIGHT)
    assert bool(lost) is (name != "TIFF")


def test_comments_and_text_chunks_stay_in_their_format() -> None:
    from PIL import PngImagePlugin

    said = PngImagePlugin.PngInfo()
    said.add_text("Author", "Müller")
    carried = read_metadata(encoded(picture(), "PNG", pnginfo=said), "PNG")
    done, _ = finished(
        encode(np.zeros((3, 8, 8), np.float32), "png"), "png", carried, Result(8, 8, 1.0, grey=False), STORY
    )
    with Image.open(io.BytesIO(done)) as image:
        assert image.text["Author"] == "Müller"
    carried = read_metadata(encoded(picture(), comment=b"scanned in 1998"), "JPEG")
    done, _ = finished(
        encode(np.zeros((3, 8, 8), np.float32), "jpeg"), "jpeg", carried, Result(8, 8, 1.0, grey=False), STORY
    )
    with Image.open(io.BytesIO(done)) as image:
        assert image.info["comment"] == b"scanned in 1998"


@pytest.mark.parametrize("name", FORMATS)
def test_resolution_without_exif(name: str) -> None:
    carried = read_metadata(encoded(picture(), dpi=(300, 300)), "JPEG")
    done, _ = finished(
        encode(np.zeros((3, 8, 8), np.float32), name), name, carried, Result(8, 8, 2.0, grey=False), STORY
    )
    with Image.open(io.BytesIO(done)) as image:
        told = image.getexif()
        assert told[exif.X_RESOLUTION] == pytest.approx(600)
        if name != "webp":
            assert image.info["dpi"] == pytest.approx((600, 600), abs=0.1)


def test_a_tiff_says_the_resolution_that_its_exif_does_not() -> None:
    note = ifd.Entry(exif.MAKER_NOTE, ifd.UNDEFINED, len(MAKER_NOTE), MAKER_NOTE)  # ties EXIF to its place
    block = b"Exif\0\0" + exif.built([], {ifd.EXIF: [note]}, "<")
    for given, unit, told in (({"dpi": (300, 300), "exif": block}, 2, 600), ({}, 1, 1)):
        carried = read_metadata(encoded(picture(), **given), "JPEG")
        file = encode(np.zeros((3, 8, 8), np.float32), "tiff")
        done, _ = finished(file, "tiff", carried, Result(8, 8, 2.0, grey=False), STORY)
        with Image.open(io.BytesIO(done)) as image:
            found = image.getexif()
            assert (found[exif.RESOLUTION_UNIT], found[exif.X_RESOLUTION], found[exif.Y_RESOLUTION]) == (
                unit,
                told,
                told,
            )
