"""What is left to do: the manifest without what the index has."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import replacing, report, rows
from pipeline.database import TableFile
from pipeline.index import IndexWriter
from pipeline.manifest import Manifest, read_manifest
from pipeline.plan import of_shard
from pipeline.settings import RunSettings, parse_shard
from pipeline.storage import Store
from supir_core.errors import InputError
from supir_core.presets import load_preset
from tests.pipeline.photographs import put
from tests.pipeline.runs import plan_for, settings_for


@pytest.fixture
def setting(tmp_path: Path) -> RunSettings:
    put(tmp_path / "photos", {"a.jpg": "a", "b.jpg": "b", "c.jpg": "c"})
    return settings_for(tmp_path / "photos", tmp_path / "out")


def index(setting: RunSettings, photo_id: str, status: str, **values: Any) -> None:
    """Pretend that an earlier run has made this row."""
    versions = {entry.path: entry.version for entry in Store(setting.input).entries()}
    row = {
        "photo_id": photo_id,
        "status": status,
        "preset_digest": setting.preset.digest,
        "model_digest": setting.model_digest,
        "format": setting.format,
        "source_version": versions.get(photo_id),
        "run": "earlier",
        "width": 2000,
        "height": 1000,
        "finished_at": datetime.datetime.now(datetime.UTC),
        **values,
    }
    with IndexWriter(Store(setting.output), f"{row['run']}-{photo_id}-{status}") as writer:
        writer.append([row])


def todo(setting: RunSettings, **changes: Any) -> list[str]:
    values = {**setting.__dict__, **changes}
    ids: list[str] = plan_for(RunSettings(**values)).todo.read()["photo_id"].to_pylist()
    return ids


def report_of(setting: RunSettings) -> report.Summary:
    return report.summarize(Store(setting.output), read_manifest(setting.input), setting.presets)


def test_at_first_everything(setting: RunSettings) -> None:
    plan = plan_for(setting)
    assert plan.todo.schema == rows.MANIFEST
    assert (plan.todo.num_rows, plan.done_before, plan.failed_before) == (3, 0, 0)


def test_then_what_has_no_row(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    index(setting, "b.jpg", rows.FAILED, error_code="empty")
    plan = plan_for(setting)
    assert plan.todo.read()["photo_id"].to_pylist() == ["c.jpg"]
    assert (plan.done_before, plan.failed_before) == (1, 1)


def test_failures_are_tried_again_when_asked(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    index(setting, "b.jpg", rows.FAILED)
    assert todo(setting, retry_failed=True) == ["b.jpg", "c.jpg"]


@pytest.mark.parametrize("code", rows.TRANSIENT)
def test_failures_that_may_not_come_again_are_tried_again_by_themselves(code: str, setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.FAILED, error_code=code)
    assert todo(setting) == ["a.jpg", "b.jpg", "c.jpg"]


def test_the_newest_row_of_a_photo_counts(setting: RunSettings) -> None:
    early, late = (datetime.datetime(2026, 1, day, tzinfo=datetime.UTC) for day in (1, 2))
    index(setting, "a.jpg", rows.RESTORED, finished_at=late)
    index(setting, "a.jpg", rows.FAILED, finished_at=early, error_code="storage")
    index(setting, "b.jpg", rows.RESTORED, finished_at=early)
    index(setting, "b.jpg", rows.RESTORED, finished_at=late, source_version="of a photo that has changed back since")
    assert todo(setting) == ["b.jpg", "c.jpg"]


def test_a_changed_photo_is_done_again(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    put(Path(setting.input), {"a.jpg": "changed"})
    assert "a.jpg" in todo(setting)


def test_another_look_is_another_matter(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    assert len(todo(setting, presets=(load_preset("demo", ["pull.tau_r=2"]),))) == 3


def test_one_look_is_never_made_by_two_models(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    with pytest.raises(InputError, match="another model") as error:
        todo(setting, model_digest="f" * 12)
    assert error.value.code == "other-model" and "--output" in error.value.hint


def test_one_look_is_never_in_two_file_formats(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    with pytest.raises(InputError, match="another file format") as error:
        todo(setting, format="jpeg")
    assert error.value.code == "other-format"


def test_rows_of_other_photos_do_not_matter(setting: RunSettings) -> None:
    index(setting, "not-in-this-folder.jpg", rows.RESTORED)
    plan = plan_for(setting)
    assert (plan.todo.num_rows, plan.done_before) == (3, 0)


def test_the_summary_counts_persisted_rows(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    index(setting, "b.jpg", rows.FAILED, error_code="empty", width=None, height=None)
    index(setting, "of-another-input.jpg", rows.FAILED, error_code="corrupt")
    summary = report_of(setting)
    assert (summary.restored, summary.failed) == (1, 1)
    assert (summary.reasons, summary.examples) == ({"empty": 1}, {"empty": "b.jpg"})
    assert summary.megapixels == pytest.approx(2.0)


def test_a_summary_of_nothing(setting: RunSettings) -> None:
    assert report_of(setting).restored == 0


def test_a_duplicate_is_done_again_with_the_photo_whose_picture_it_shows(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED, sha256="1")
    index(setting, "b.jpg", rows.RESTORED, sha256="1", duplicate_of="a.jpg")
    index(setting, "c.jpg", rows.RESTORED, sha256="2")
    assert todo(setting) == []
    put(Path(setting.input), {"a.jpg": "changed"})
    assert todo(setting) == ["a.jpg", "b.jpg"]
    assert (plan_for(setting).done_before, report_of(setting).duplicates) == (1, 1)


def test_a_duplicate_is_done_again_when_the_picture_it_shows_has_changed(setting: RunSettings) -> None:
    """As when the run in which that happened was killed."""
    index(setting, "a.jpg", rows.RESTORED, sha256="1")
    index(setting, "b.jpg", rows.RESTORED, sha256="1", duplicate_of="a.jpg")
    index(setting, "c.jpg", rows.RESTORED)
    index(setting, "a.jpg", rows.FAILED, error_code="truncated")
    assert todo(setting) == [], "a failure leaves the picture"
    index(setting, "a.jpg", rows.RESTORED, sha256="2", run="later")
    assert todo(setting) == ["b.jpg"]


def test_what_is_no_duplicate_any_more_is_left_alone(setting: RunSettings) -> None:
    index(setting, "b.jpg", rows.RESTORED, sha256="1", duplicate_of="a.jpg")
    index(setting, "b.jpg", rows.RESTORED, sha256="3", run="later")
    index(setting, "c.jpg", rows.RESTORED)
    assert todo(setting) == ["a.jpg"]


def test_pictures_that_are_newer_than_the_index_are_looked_at_again(setting: RunSettings) -> None:
    for photo in ("a.jpg", "b.jpg", "c.jpg"):
        index(setting, photo, rows.RESTORED)
    replacing.mark(Store(setting.output), setting.preset.folder, ["b.jpg"])
    replacing.mark(Store(setting.output), "another-look", ["c.jpg"])
    assert todo(setting) == ["b.jpg"]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_shards_share_the_photos_out(tmp_path: Path, shards: int) -> None:
    put(tmp_path / "photos", {f"{n % 5}/{n:03d}.jpg": f"{n}" for n in range(60)})
    setting = settings_for(tmp_path / "photos", tmp_path / "out")
    every = read_manifest(setting.input)
    parts = [todo(setting, shard=f"{n}/{shards}") for n in range(1, shards + 1)]
    assert sorted(photo for part in parts for photo in part) == todo(setting)
    assert all(parts), "each has something to do"
    for number, part in enumerate(parts, 1):
        assert of_shard(every, f"{number}/{shards}").photos.read()["photo_id"].to_pylist() == part


@settings(max_examples=30, deadline=None, derandomize=True)
@given(ids=st.sets(st.text(min_size=1, max_size=20), min_size=1, max_size=30), shards=st.integers(1, 40))
def test_every_id_is_in_one_shard(ids: set[str], shards: int) -> None:
    photos = TableFile(rows.MANIFEST)
    photos.append(rows.table([{"photo_id": photo} for photo in ids], rows.MANIFEST))
    manifest = Manifest(photos, {}, {})
    parts = [of_shard(manifest, f"{n}/{shards}").photos.read()["photo_id"].to_pylist() for n in range(1, shards + 1)]
    assert sorted(photo for part in parts for photo in part) == sorted(ids)


def test_counts_are_of_the_shard(setting: RunSettings) -> None:
    index(setting, "a.jpg", rows.RESTORED)
    index(setting, "b.jpg", rows.FAILED, error_code="truncated")
    plans = [plan_for(dataclasses.replace(setting, shard=f"{n}/3")) for n in (1, 2, 3)]
    assert sum(plan.done_before for plan in plans) == sum(plan.failed_before for plan in plans) == 1


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/", "/2", "-1/2", "a/b", "1/2/3", "1/0"])
def test_what_is_no_shard(shard: str) -> None:
    with pytest.raises(InputError) as error:
        parse_shard(shard)
    assert error.value.code == "shard"
