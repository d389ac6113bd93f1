"""Where captions come from, and which one wins."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from pipeline import rows
from pipeline.captions.captioning import Captioning
from pipeline.captions.finder import CaptionFinder, Found, Look, Subject
from pipeline.watch import Clock
from supir_core.errors import PhotoError
from tests.pipeline.photographs import jpeg, picture, put


def photo(folder: Path, **values: Any) -> rows.Row:
    given = {"photo_id": "a.jpg", "uri": str(folder / "a.jpg"), "sidecar": None, "caption": None}
    return {**dict.fromkeys(rows.MANIFEST.names), **given, **values}


def captioned(row: rows.Row, source: str = Captioning.source, **looks: Look) -> rows.Row:
    entered: list[str] = []

    @contextmanager
    def risk(photo: rows.Row) -> Iterator[Clock]:
        entered.append(photo["photo_id"])
        yield Clock(photo["photo_id"])

    found = CaptionFinder(Captioning(source=source, prefix="Archive: "), looks, risk).find(row)
    assert not entered or {"vlm", "endpoint", "describe"} & set(source.split(",")), "only for what decodes"
    assert rows.table([found], rows.CAPTIONED).num_rows == 1
    return found


def said(row: rows.Row) -> tuple[str, str, list[str]]:
    return row["caption"], row["caption_source"], row["warnings"]


def with_exif(text: str) -> bytes:
    data, out = Image.Exif(), io.BytesIO()
    data[ExifTags.Base.ImageDescription] = text
    picture(40, 60).save(out, "JPEG", exif=data)
    return out.getvalue()


def looks(answer: Found) -> Look:
    return lambda subject, clock: answer


def test_a_file_beside_the_photo_wins(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg.txt": "from  the\nfile", "a.jpg": with_exif("from the photo")})
    assert said(captioned(photo(tmp_path, caption="from the list"))) == ("from the file", "sidecar", [])


def test_then_the_photos_own(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": with_exif("A harbour")})
    assert said(captioned(photo(tmp_path, caption="from the list"))) == ("Archive: A harbour", "embedded", [])
    known = photo(tmp_path, source_bytes=(tmp_path / "a.jpg").stat().st_size)
    assert captioned(known)["caption"] == "Archive: A harbour"


def test_then_the_column_of_the_list(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": jpeg()})
    assert said(captioned(photo(tmp_path, caption="from the list"))) == ("from the list", "column", [])


def test_an_empty_file_does_not_hide_the_column(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": " \n", "a.jpg": jpeg()})
    assert captioned(photo(tmp_path, caption="from the list"))["caption_source"] == "column"


def test_then_none(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": jpeg()})
    assert said(captioned(photo(tmp_path))) == ("", "none", [])


def test_a_listing_that_has_seen_none_is_believed(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": "came later", "a.jpg": jpeg()})
    assert captioned(photo(tmp_path, sidecar=""))["caption_source"] == "none"


@pytest.mark.parametrize("caption", ["People's own words", ""])
def test_what_people_have_edited_stands_before_all(tmp_path: Path, caption: str) -> None:
    put(tmp_path, {"a.txt": "from the file"})
    assert said(captioned(photo(tmp_path, edited=caption))) == (caption, "edited", [])
    prompted = photo(tmp_path, edited=caption, prompt="a prompt")
    assert captioned(prompted)["caption_source"] == rows.PROMPT, "but before the prompt of a list"


def test_sources_are_tried_in_the_order_given(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": "from the file", "a.jpg": jpeg()})
    both = photo(tmp_path, caption="from the list")
    model = looks(Found("seen", ("left", "right"), "d1", 0.5))
    assert captioned(both, "column,sidecar")["caption_source"] == "column"
    row = captioned(both, "vlm,sidecar", vlm=model)
    assert (row["caption"], row["caption_source"], row["tile_captions"]) == ("seen", "vlm", ["left", "right"])
    assert (row["caption_digest"], row["caption_s"]) == ("d1", 0.5)
    assert captioned(both, "none")["caption_source"] == "none"


def test_a_model_that_says_nothing_leaves_it_to_the_next_and_a_warning(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": jpeg()})
    silent = looks(Found(warnings=("caption-empty",)))
    row = captioned(photo(tmp_path, caption="from the list"), "vlm,column", vlm=silent)
    assert said(row) == ("from the list", "column", ["caption-empty"]) and row["caption_digest"] is None

    def failing(subject: Subject, clock: Clock) -> Found:
        raise PhotoError("the picture is refused")

    row = captioned(photo(tmp_path), "vlm,endpoint", vlm=failing, endpoint=silent)
    assert said(row) == ("", "none", ["caption-failed: the picture is refused", "caption-empty"])


def test_a_description_by_rule_says_that_it_is_one(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": jpeg(0, 64, 96)})
    text, source, warnings = said(captioned(photo(tmp_path), "sidecar,describe"))
    assert source == "describe" and text.startswith("Measured: landscape, tiny") and not warnings


def test_a_photo_that_cannot_be_decoded_is_left_to_the_restore_stage(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": b"no photo"})
    _, source, warnings = said(captioned(photo(tmp_path), "describe"))
    assert source == "none" and warnings == ["caption-failed: not an image in a known format"]


def test_a_caption_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    put(tmp_path, {"a.jpg": jpeg()})
    row = captioned(photo(tmp_path, sidecar=str(tmp_path / "a.txt"), caption="from the list"))
    assert row["caption_source"] == "column"
    assert row["warnings"][0].startswith("caption-unreadable: ")


def test_a_caption_that_is_no_text_is_a_warning(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": bytes(10), "a.jpg": jpeg()})
    row = captioned(photo(tmp_path))
    assert (row["caption"], row["caption_source"]) == ("", "none")
    assert row["warnings"][0].startswith("caption-unreadable: ")


@pytest.mark.parametrize("uri", ["floppy://a/b.jpg", "/", "..", "/photos/.."])
def test_an_impossible_uri_is_left_to_the_restore_stage(uri: str) -> None:
    """Whatever a list holds, this stage never ends the run."""
    assert captioned(photo(Path(), uri=uri))["caption_source"] == "none"
