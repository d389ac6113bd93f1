"""A choice of looks within a real S3 store: the store copies by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import selection
from pipeline.storage import Store
from tests.jobs.test_choosing import LOOKS, fill

pytestmark = pytest.mark.usefixtures("s3")


def test_pictures_are_copied_by_the_store_and_from_it(bucket: str, tmp_path: Path) -> None:
    store = Store(f"s3://{bucket}/out [1]")
    fill(store, tmp_path / "in", {"a.jpg": 0.0, "sub/#1 100%.jpg": 1.0})
    found = selection.choose(store, "fidelity_db < 30 order by fidelity_db desc")
    for to in (Store(f"s3://{bucket}/chosen"), Store(str(tmp_path / "chosen"))):
        selection.export(store, found.chosen, to)
        assert sorted(entry.path for entry in to.entries()) == ["a.jpg.png", "selection.csv", "sub/#1 100%.jpg.png"]
        assert to.read("a.jpg.png") == store.read(f"images/{LOOKS[0].folder}/a.jpg.png")
