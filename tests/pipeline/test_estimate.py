"""What a run will take: sizes of a sample, refusals, and the rate that this output has measured."""

from __future__ import annotations

import datetime
import itertools
from pathlib import Path

import pytest

from pipeline import estimate, rows
from pipeline.database import TableFile
from pipeline.estimate import Rate, Refused, Survey, Work
from pipeline.index import IndexWriter
from pipeline.manifest import read_manifest
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import PhotoError
from supir_core.presets import load_preset
from tests.pipeline.photographs import absurd_png, encoded, jpeg, picture, put
from tests.pipeline.runs import settings_for
from tests.pipeline.test_index import EPOCH

LOOK = load_preset("demo", ["size.upscale=1", "size.min_size_px=64", "sampling.num_steps=10"])
_parts = itertools.count()


@pytest.fixture
def setting(tmp_path: Path) -> RunSettings:
    return settings_for(tmp_path / "in", tmp_path / "out", preset=LOOK)


def manifest(setting: RunSettings, files: dict[str, bytes | str]) -> TableFile:
    put(Path(setting.input), files)
    return read_manifest(setting.input).photos


def test_photos_by_format(setting: RunSettings) -> None:
    photos = manifest(
        setting, {"a.jpg": "12", "b.c/B.JPG": "345", "b.tif": "", "c.heic": "x", "d.NEF": "x", "n.md": ""}
    )
    found = {kind.extension: kind for kind in estimate.formats(photos)}
    assert {extension: (kind.photos, kind.bytes) for extension, kind in found.items()} == {
        ".jpg": (2, 5),
        ".tif": (1, 0),
        ".heic": (1, 1),
        ".nef": (1, 1),
    }
    refused = {extension: kind.refusal.code for extension, kind in found.items() if kind.refusal}
    assert refused == {".heic": "unsupported-format", ".nef": "raw-photo"}


def test_a_sample_is_random_and_the_same_each_time(setting: RunSettings) -> None:
    photos = manifest(setting, {f"{n:03d}.{'heic' if n % 2 else 'jpg'}": "x" for n in range(200)})
    ids = estimate.sample(photos, [".heic"], 10).read()["photo_id"].to_pylist()
    assert estimate.sample(photos, [".heic"], 10).read()["photo_id"].to_pylist() == ids
    assert len(set(ids)) == 10 and all(name.endswith(".jpg") for name in ids)
    assert max(ids) > "100" and ids != sorted(ids), "not the first ones"
    assert estimate.sample(photos, [".heic"], 5).read()["photo_id"].to_pylist() == ids[:5], "a larger one has it all"
    assert estimate.sample(photos, [".heic"], None).num_rows == 100


def test_a_survey_adds_up_sizes_and_refusals(setting: RunSettings) -> None:
    photos = manifest(
        setting,
        {
            "large.png": encoded(picture(1280, 1920), "PNG"),  # 2.5 MP, multiples of 64
            "small.jpg": jpeg(1, 64, 128),
            "empty.jpg": b"",
            "page.jpg": "<html>",
            "page 2.jpg": "<html>",
            "absurd.png": absurd_png(),
        },
    )
    told: list[tuple[int, int]] = []
    found = estimate.survey(photos, setting, lambda *count: told.append(count))
    assert told == [(number, 6) for number in range(1, 7)]
    assert found.photos == 6 and found.seen == pytest.approx((1280 * 1920 + 64 * 128) / 1e6)
    assert sum(found.megapixels) == 2 and found.megapixels[0] == found.megapixels[3] == 1
    assert {code: refused.photos for code, refused in found.refused.items()} == {
        "empty": 1,
        "not-an-image": 2,
        "too-large": 1,
    }
    assert found.refused["empty"].example == "empty.jpg"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"max_megapixels": 2.0}, "too-large"), ({"format": "webp", "presets": "wide"}, "output-limit")],
)
def test_limits_are_those_of_the_run(setting: RunSettings, changes: dict[str, object], code: str) -> None:
    if "presets" in changes:
        changes = changes | {"presets": (load_preset("demo", ["size.upscale=16"]),)}
    photos = manifest(setting, {"a.png": encoded(picture(1280, 1920), "PNG")})
    found = estimate.survey(photos, RunSettings(**{**setting.__dict__, **changes}))
    assert list(found.refused) == [code]
    assert found.seen == 0 and sum(found.megapixels) == 1, "its size is known all the same"


def test_photos_that_have_gone_and_lists_that_say_nothing_of_sizes(setting: RunSettings, tmp_path: Path) -> None:
    put(tmp_path, {"in/a.png": encoded(picture(64, 128), "PNG"), "list.csv": "uri\nin/a.png\nin/gone.png\n"})
    found = estimate.survey(read_manifest(str(tmp_path / "list.csv")).photos, setting)
    assert found.seen == pytest.approx(64 * 128 / 1e6)
    assert {code: (refused.photos, refused.example) for code, refused in found.refused.items()} == {
        "not-found": (1, "in/gone.png")
    }


def test_the_work_of_all_follows_from_the_sample() -> None:
    survey = Survey(photos=100, seen=200.0, seen_squared=500.0)  # mean 2, variance 1
    assert survey.work(100) == Work(200.0, 0.0), "all are known"
    some = survey.work(10_000)
    assert some.megapixels == 20_000
    assert some.margin == pytest.approx(10_000 * 1.96 * 0.1 * (1 - 0.01) ** 0.5)
    assert Survey().work(0) == Work(0.0, 0.0)
    assert Refused(1, "a", PhotoError("x")).photos == 1


def index(setting: RunSettings, worker: str, begun_s: float, ended_s: float, **values: object) -> None:
    """A row of a photo of 640 x 1000 pixels: 0.64 x 1.024 megapixels for the networks... rounded to multiples of 64."""
    row = {
        "photo_id": f"{worker}-{begun_s}",
        "status": rows.RESTORED,
        "preset_digest": setting.preset.digest,
        "model_digest": setting.model_digest,
        "source_height": 640,
        "source_width": 1280,
        "restore_s": ended_s - begun_s,
        "seconds": ended_s - begun_s,
        "worker": worker,
        "run": "r1",
        "finished_at": EPOCH + datetime.timedelta(seconds=ended_s),
        **values,
    }
    with IndexWriter(Store(setting.output), f"r1-{next(_parts)}") as writer:
        writer.append([row])


MEGAPIXELS = 640 * 1280 / 1e6


def test_a_rate_counts_what_workers_did_at_once_once(setting: RunSettings) -> None:
    """Two photos at once in one worker, two one after the other in another; failures and other models do not count."""
    index(setting, "a", 0, 20)
    index(setting, "a", 0, 20.5, photo_id="a2")
    index(setting, "b", 5, 10)
    index(setting, "b", 10, 14.5)
    index(setting, "b", 0, 500, status=rows.FAILED)
    index(setting, "c", 0, 500, model_digest="another")
    index(setting, "d", 0, 0, restore_s=None)  # it had the picture of another photo
    rate = estimate.measured_rate(setting)
    assert rate == Rate(pytest.approx(4 * MEGAPIXELS / (20.5 + 9.5)), 4, True)


def test_without_rows_there_is_no_rate(setting: RunSettings) -> None:
    assert estimate.measured_rate(setting) is None
    index(setting, "a", 0, 10, model_digest="another")
    assert estimate.measured_rate(setting) is None


def test_rows_of_another_look_count_by_their_steps(setting: RunSettings) -> None:
    other = settings_for("in", setting.output, run="r1", preset=load_preset("demo", ["sampling.num_steps=5"]))
    size = (2560 * 1280) / 1e6  # twice as large
    index(other, "a", 0, 10)
    assert estimate.measured_rate(setting) is None, "nobody knows what its preset was"
    other.save(Store(setting.output))
    assert estimate.measured_rate(setting) == Rate(pytest.approx(size / 10 * 5 / 10), 1, False)
    index(setting, "a", 0, 10)
    assert estimate.measured_rate(setting) == Rate(pytest.approx(MEGAPIXELS / 10), 1, True)
