"""Where captions come from, and which one wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import rows
from pipeline.caption_stage import CaptionStage, captioned
from tests.pipeline.photographs import put


def photo(folder: Path, **values: Any) -> rows.Row:
    return {"photo_id": "a.jpg", "uri": str(folder / "a.jpg"), "sidecar": None, "caption": None, **values}


def test_a_file_beside_the_photo_wins(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg.txt": "from  the\nfile"})
    row = captioned(photo(tmp_path, caption="from the list"))
    assert (row["caption"], row["caption_source"], row["warnings"]) == ("from the file", "sidecar", [])


def test_then_the_column_of_the_list(tmp_path: Path) -> None:
    row = captioned(photo(tmp_path, caption="from the list"))
    assert (row["caption"], row["caption_source"]) == ("from the list", "column")


def test_an_empty_file_does_not_hide_the_column(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": " \n"})
    assert captioned(photo(tmp_path, caption="from the list"))["caption_source"] == "column"


def test_then_none(tmp_path: Path) -> None:
    row = captioned(photo(tmp_path))
    assert (row["caption"], row["caption_source"]) == ("", "none")


def test_a_listing_that_has_seen_none_is_believed(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": "came later"})
    assert captioned(photo(tmp_path, sidecar=""))["caption_source"] == "none"


def test_a_caption_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    row = captioned(photo(tmp_path, sidecar=str(tmp_path / "a.txt"), caption="from the list"))
    assert row["caption_source"] == "column"
    assert row["warnings"][0].startswith("caption-unreadable: ")


def test_a_caption_that_is_no_text_is_a_warning(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": bytes(10)})
    row = captioned(photo(tmp_path))
    assert (row["caption"], row["caption_source"]) == ("", "none")
    assert row["warnings"][0].startswith("caption-unreadable: ")


@pytest.mark.parametrize("uri", ["floppy://a/b.jpg", "/", "..", "/photos/.."])
def test_an_impossible_uri_is_left_to_the_restore_stage(uri: str) -> None:
    """Whatever a list holds, this stage never ends the run."""
    assert captioned(photo(Path(), uri=uri))["caption_source"] == "none"


def test_the_stage_takes_manifest_rows_and_adds_two_columns(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": "A"})
    table = CaptionStage()(rows.table([photo(tmp_path)], rows.MANIFEST))
    assert table.schema == rows.CAPTIONED
    assert table["caption"].to_pylist() == ["A"]
