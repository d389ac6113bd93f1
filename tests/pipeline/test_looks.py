"""Several looks in one pass: each photo is fetched and cleaned once, and every look stands for itself."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import index, kept, report, rows
from pipeline.attempts import start_attempts
from pipeline.caption_stage import CaptionStage
from pipeline.captions.captioning import Captioning
from pipeline.captions.writers import load_writers
from pipeline.lease import held
from pipeline.manifest import read_manifest
from pipeline.release import release
from pipeline.restore_stage import LoadRestorer, RestoreStage
from pipeline.rows import Row
from pipeline.settings import RunSettings, check_together
from pipeline.storage import Store
from supir_core.errors import InputError
from supir_core.presets import Preset, derive, load_preset
from supir_core.restorer import Photo, Restored, Restorer
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import TINY, plan_for, restore, settings_for

pytestmark = pytest.mark.usefixtures("cluster")

LOOKS = tuple(load_preset("demo", [*TINY, f"pull.tau_r={tau_r}"]) for tau_r in ("0.5", "4", "off"))

Rows = dict[tuple[str, float | None], Row]


@cache
def attempts() -> Any:
    """A handle of a real `Attempts` actor."""
    return start_attempts()


def finished(settings: RunSettings, load: LoadRestorer) -> Rows:
    """The rows of what is left of the input, which come to the stages at once; by photo and tau_r."""
    stage = RestoreStage(settings.to_dict(), torch.get_num_threads(), attempts(), load, release())
    captions = CaptionStage(settings.to_dict(), torch.get_num_threads(), attempts(), load_writers, release())
    photos = captions(plan_for(settings).todo.read())
    with ThreadPoolExecutor(max_workers=16) as pool:
        tables = list(pool.map(stage, [photos.slice(n, 1) for n in range(photos.num_rows)]))
    found = [row for table in tables for row in table.to_pylist()]
    by_look = {(row["photo_id"], row["tau_r"]): row for row in found}
    assert len(by_look) == len(found)
    return by_look


def pixels(settings: RunSettings, row: Row) -> np.ndarray:
    return np.asarray(Image.open(Path(settings.output) / row["image"])).astype(int)


class Watched:
    """A restorer that keeps what it is asked for."""

    def __init__(self, restorer: Any):
        self._restorer = restorer
        self.asked: list[list[Photo]] = []

    def __call__(self, settings: RunSettings) -> Watched:
        return self

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        self.asked.append(list(photos))
        made: list[Restored] = self._restorer.restore(photos)
        return made


@pytest.fixture(scope="module")
def demo() -> Restorer:
    return Restorer.load("demo", device="cpu")


def test_each_look_is_as_if_it_had_been_alone(tmp_path: Path, demo: Restorer) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 32, 32), "b.jpg": jpeg(2, 32, 40), "b.txt": "a garden"})
    watched = Watched(demo)
    together = settings_for(tmp_path / "in", tmp_path / "together", presets=LOOKS)
    found = finished(together, watched)
    assert sorted(len(photos) for photos in watched.asked) == [3, 3], "the looks of a photo are restored together"
    assert all(len({id(photo.pixels) for photo in photos}) == 1 for photos in watched.asked), "and decoded once"
    assert {row["preset_digest"] for row in found.values()} == {look.digest for look in LOOKS}
    for look in LOOKS:
        alone = settings_for(tmp_path / "in", tmp_path / look.digest, preset=look)
        for key, row in finished(alone, Watched(demo)).items():
            assert np.abs(pixels(alone, row) - pixels(together, found[key])).max() <= 1
            same = ("image", "caption", "preset_digest", "source_sha256", "width", "warnings")
            assert [found[key][name] for name in same] == [row[name] for name in same]
    assert len({row["sha256"] for row in found.values()}) == 6


def test_a_run_makes_a_row_per_photo_and_look_and_goes_on_per_look(tmp_path: Path) -> None:
    """Over real Ray, with a photo that is no photo and a copy; then with one look more, then with nothing left."""
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": b"", "copy.jpg": jpeg(1)})
    settings = settings_for(tmp_path / "in", tmp_path / "out", presets=LOOKS[:2])
    plan = restore(settings)
    assert (plan.todo.num_rows, plan.pictures) == (3, 6)
    found = index.query(Store(settings.output), "select * from photos").to_pylist()
    assert sorted((row["photo_id"], row["tau_r"], row["error_code"]) for row in found) == [
        (name, tau_r, "empty" if name == "b.jpg" else None)
        for name in ("a.jpg", "b.jpg", "copy.jpg")
        for tau_r in (0.5, 4)
    ]
    assert sum(row["duplicate_of"] is not None for row in found) == 2, "one per look"
    orders = Pretend(tmp_path / "journal")
    more = settings_for(tmp_path / "in", tmp_path / "out", presets=LOOKS)
    plan = restore(more, orders)
    assert plan.todo.read()["looks"].to_pylist() == [[LOOKS[2].digest]] * 3
    assert (plan.pictures, plan.done_before, plan.failed_before) == (3, 4, 2)
    assert sum(orders.begun().values()) == 1
    summary = report.summarize(Store(more.output), read_manifest(more.input), LOOKS)
    assert (summary.restored, summary.failed, summary.duplicates, summary.reasons) == (6, 3, 3, {"empty": 3})
    assert summary.restored_by_look == {look.folder: 2 for look in LOOKS}
    assert plan_for(more).pictures == 0
    assert plan_for(replace(more, redo=True)).pictures == 9
    assert not list((tmp_path / "out" / "replacing").rglob("*"))


def test_what_one_look_lacks_is_made_for_it_alone(tmp_path: Path) -> None:
    """After a kill: of a photo's looks some have a record, and some a row."""
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    finished(settings_for(tmp_path / "in", tmp_path / "out", preset=LOOKS[0], limit=1), Pretend())
    watched = Watched(Pretend()(settings_for(tmp_path / "in", tmp_path / "out")))
    found = finished(settings_for(tmp_path / "in", tmp_path / "out", presets=LOOKS), watched)
    assert len(found) == 6 and {row["status"] for row in found.values()} == {rows.RESTORED}
    asked = [(photo.preset.pull.tau_r, len(photos)) for photos in watched.asked for photo in photos]
    assert sorted(asked, key=str) == sorted([(0.5, 3), (4, 3), (None, 3), (4, 2), (None, 2)], key=str)


def test_a_look_that_fails_fails_alone(tmp_path: Path) -> None:
    class Fussy:
        """Has no memory for one look, and no numbers for another."""

        def __init__(self, restorer: Any):
            self._restorer = restorer

        def restore(self, photos: Sequence[Photo]) -> list[Restored]:
            if any(photo.preset == LOOKS[0] for photo in photos):
                raise torch.OutOfMemoryError("tried to allocate 20 GiB")
            made: list[Restored] = self._restorer.restore(photos)
            return [
                result._replace(image=result.image * (torch.nan if photo.preset == LOOKS[1] else 1))
                for photo, result in zip(photos, made, strict=True)
            ]

    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    large = derive(LOOKS[0], ["size.upscale=16", "pull.tau_r=9"])
    settings = settings_for(
        tmp_path / "in", tmp_path / "out", presets=(*LOOKS, large), max_megapixels=0.5, photos_per_batch=4
    )
    fussy = Watched(Fussy(Pretend()(settings)))
    found = finished(settings, fussy)
    expected = {0.5: "out-of-memory", 4: "not-finite", 9: "too-large", None: None}
    assert {key: row["error_code"] for key, row in found.items()} == {
        (name, tau_r): code for name in ("a.jpg", "b.jpg") for tau_r, code in expected.items()
    }
    assert len(list((tmp_path / "out" / "images").rglob("*.png"))) == 2


def test_a_list_says_which_looks_a_photo_gets(tmp_path: Path) -> None:
    faithful, vivid = (replace(LOOKS[n], name=name) for n, name in ((0, "faithful"), (1, "vivid")))
    put(tmp_path, {f"{name}.jpg": jpeg(n) for n, name in enumerate("abcd")})
    lines = ["a.jpg,faithful,", "b.jpg,vivid,", "c.jpg,,", "d.jpg,vivid,a dog", "d.jpg,,a cat", "a.jpg,other,"]
    put(tmp_path, {"list.csv": "uri,preset,prompt\n" + "\n".join(lines) + "\n"})
    settings = settings_for(tmp_path / "list.csv", tmp_path / "out", presets=(faithful, vivid))
    plan = plan_for(settings)
    assert plan.pictures == 6
    assert {(row["photo_id"], row["prompt"], *row["looks"]) for row in plan.todo.read().to_pylist()} == {
        ("a.jpg", None, faithful.digest),
        ("b.jpg", None, vivid.digest),
        ("c.jpg", None, faithful.digest, vivid.digest),
        ("d.jpg", "a cat", faithful.digest),
        ("d.jpg", "a dog", vivid.digest),
    }
    manifest = read_manifest(settings.input, presets=settings.preset_names)
    assert (manifest.num_photos, manifest.others) == (4, {"other": 1})
    found = finished(settings, Pretend())
    assert found["d.jpg", 0.5]["caption"] == "a cat" and found["d.jpg", 4.0]["caption"] == "a dog"
    assert report.summarize(Store(settings.output), manifest, settings.presets).restored == 0, "no row stands in it yet"


def test_every_look_has_its_lease(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "in", tmp_path / "out", presets=LOOKS)
    store = Store(settings.output)
    with held(store, settings, lambda: None):
        assert len(list((tmp_path / "out").glob("runs/leases/*/*.json"))) == 3
        for look in LOOKS:
            other = settings_for(tmp_path / "in", tmp_path / "out", presets=(derive(look, ["sampling.seed=1"]), look))
            with pytest.raises(InputError, match="restores preset") as raised, held(store, other, lambda: None):
                pass
            assert raised.value.code == "run-active"
    assert not list((tmp_path / "out").glob("runs/leases/*/*.json"))


def test_shards_have_all_looks_of_their_photos(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n}.jpg": jpeg(n) for n in range(8)})
    settings = settings_for(tmp_path / "in", tmp_path / "out", presets=LOOKS)
    parts = [plan_for(replace(settings, shard=shard)) for shard in ("1/2", "2/2")]
    assert sum(plan.pictures for plan in parts) == 24
    assert all(plan.pictures == 3 * plan.todo.num_rows > 0 for plan in parts)


VLM = Captioning(source="vlm", model="somewhere")


@pytest.mark.parametrize(
    ("change", "words", "refused"),
    [
        ("text.positive=sharp", VLM, "text.positive"),
        ("stage1.clean=none", VLM, "stage1.clean"),
        ("stage1.clean=none", replace(VLM, input="photo"), None),
        ("size.upscale=3", replace(VLM, per_tile=True), "size"),
        ("size.upscale=3", VLM, None),
        ("text.positive=sharp", Captioning(), None),
    ],
)
def test_looks_that_would_be_captioned_differently_are_refused(
    change: str, words: Captioning, refused: str | None
) -> None:
    looks: list[Preset] = [LOOKS[0], derive(LOOKS[0], [change])]
    if refused is None:
        check_together(looks, words)
        return
    with pytest.raises(InputError, match=refused) as raised:
        check_together(looks, words)
    assert raised.value.code == "looks"


def test_latents_are_kept_once_and_taken_where_they_fit(tmp_path: Path, demo: Restorer) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 32, 32)})
    keeping = settings_for(tmp_path / "in", tmp_path / "out", presets=LOOKS[:2], latents="keep")
    first = Watched(demo)
    finished(keeping, first)
    (file,) = (tmp_path / "out" / kept.FOLDER).rglob("*.safetensors")
    assert [photo.latents for photos in first.asked for photo in photos] == [None, None]
    using = settings_for(tmp_path / "in", tmp_path / "out", preset=LOOKS[2], latents="use")
    second = Watched(demo)
    (row,) = finished(using, second).values()
    assert all(photo.latents is not None for photos in second.asked for photo in photos)
    fresh = settings_for(tmp_path / "in", tmp_path / "fresh", preset=LOOKS[2])
    (expected,) = finished(fresh, Watched(demo)).values()
    assert row["sha256"] == expected["sha256"], "the same bytes"

    file.write_bytes(file.read_bytes()[:-9])
    again, third = (
        settings_for(tmp_path / "in", tmp_path / "out", preset=LOOKS[2], latents="use", redo=True),
        Watched(demo),
    )
    (mended,) = finished(again, third).values()
    assert [photo.latents for photos in third.asked for photo in photos] == [None], "a damaged file is no latents"
    assert mended["sha256"] == expected["sha256"]
    other = settings_for(tmp_path / "in", tmp_path / "out", preset=derive(LOOKS[2], ["size.upscale=3"]), latents="keep")
    finished(other, Watched(demo))
    assert len(list((tmp_path / "out" / kept.FOLDER).rglob("*.safetensors"))) == 2, "another size is another file"
