"""Other looks of what an output has: which photos, with which captions, and that they are what a fresh run makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import flow, index, kept, rows
from pipeline.captions import edits
from pipeline.captions.captioning import Captioning
from pipeline.plan import make_plan
from pipeline.reprocess import earlier
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.errors import InputError
from supir_core.presets import load_preset
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import TINY, plan_for, restore, settings_for

pytestmark = pytest.mark.usefixtures("cluster")

FIRST, OTHER = (load_preset("demo", [*TINY, f"pull.tau_r={tau_r}"]) for tau_r in ("0.5", "4"))
NONE = Captioning(source="none")


def again(settings: RunSettings, load: Any = None, where: str | None = None, **changes: Any) -> dict[str, Row]:
    """The rows of another look, by photo."""
    other = settings_for(settings.output, settings.output, captioning=NONE, latents="use", preset=OTHER, **changes)
    plan = make_plan(earlier(Store(settings.output), where).manifest, other)
    if plan.todo.num_rows:
        flow.run(other, plan.todo, **({"load": load} if load else {}))
    return look(settings.output, OTHER.digest)


def look(output: str, digest: str) -> dict[str, Row]:
    found = index.query(Store(output), f"select * from photos where preset_digest = '{digest}'").to_pylist()
    return {row["photo_id"]: row for row in found}


def test_the_picture_is_that_of_a_fresh_run(tmp_path: Path) -> None:
    """The same bytes where a photo is alone; within one level where others share its batches."""
    photos = {f"{n}.jpg": jpeg(n, 32, 32 + 8 * n) for n in range(3)} | {"copy.jpg": jpeg(1, 32, 40)}
    put(tmp_path / "in", {**photos, "1.txt": "a garden", "copy.txt": "a garden"})
    settings = settings_for(tmp_path / "in", tmp_path / "out", preset=FIRST, latents="keep")
    flow.run(settings, plan_for(settings).todo)
    assert len(list((tmp_path / "out" / kept.FOLDER).rglob("*.safetensors"))) == 3
    fresh = settings_for(tmp_path / "in", tmp_path / "fresh", preset=OTHER)
    flow.run(fresh, plan_for(fresh).todo)
    expected = look(fresh.output, OTHER.digest)

    for file in (tmp_path / "in").glob("*.txt"):
        file.unlink()  # captions come from the earlier run
    found = again(settings)
    same = ("sha256", "path", "caption", "caption_source", "source_version", "source_sha256", "warnings")
    assert {key: [row[name] for name in same] for key, row in found.items()} == {
        key: [row[name] for name in same] for key, row in expected.items()
    }
    copies = {found[key]["image"] for key in ("1.jpg", "copy.jpg")}  # whichever of the two came first
    assert len(copies) == 1
    assert all(found[key]["image"] == expected[key]["image"] for key in ("0.jpg", "2.jpg"))
    assert sum(row["duplicate_of"] is not None for row in found.values()) == 1
    assert plan_for(replace(settings, presets=(OTHER,))).pictures == 0, "for supir run it is done, too"

    together = settings_for(tmp_path / "in", tmp_path / "together", preset=FIRST, latents="keep")
    put(tmp_path / "in", {"1.txt": "a garden", "copy.txt": "a garden"})
    flow.run(together, plan_for(together).todo)
    for key, row in again(together, photos_per_batch=3).items():
        one = np.asarray(Image.open(tmp_path / "together" / row["image"])).astype(int)
        other = np.asarray(Image.open(tmp_path / "fresh" / expected[key]["image"])).astype(int)
        assert np.abs(one - other).max() <= 1


def test_captions_stay_unless_people_have_changed_them(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}.jpg": jpeg(n) for n, name in enumerate("abc")} | {"a.txt": "a street", "b.txt": "a dog"})
    put(tmp_path, {"list.csv": "uri,photo_id,prompt\na.jpg,a,\nb.jpg,b,\nc.jpg,c,a prompt\n"})
    settings = settings_for(tmp_path / "list.csv", tmp_path / "out", preset=FIRST)
    restore(settings)
    edits.append(Store(settings.output), [{"photo_id": name, "caption": "a cat"} for name in "bc"])
    names = Pretend(names=str(named(tmp_path, settings)))
    found = again(settings, names)
    assert {key: (row["caption"], row["caption_source"]) for key, row in found.items()} == {
        "a": ("a street", "sidecar"),
        "b": ("a cat", "edited"),
        "c": ("a prompt", "prompt"),
    }
    before = {key: row["finished_at"] for key, row in found.items()}
    assert {key: row["finished_at"] for key, row in again(settings, names).items()} == before, "nothing is left to do"


def named(folder: Path, settings: RunSettings) -> Path:
    """What a pretended restorer knows photos by, where the input is an output."""
    import json

    ids = {row["source_sha256"]: key for key, row in look(settings.output, FIRST.digest).items()}
    (folder / "names.json").write_text(json.dumps(ids), encoding="utf-8")
    return folder / "names.json"


def test_photos_that_have_changed_or_gone_say_so(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{name}.jpg": jpeg(n) for n, name in enumerate("abc")})
    settings = settings_for(tmp_path / "in", tmp_path / "out", preset=FIRST)
    restore(settings)
    put(tmp_path / "in", {"b.jpg": jpeg(9)})
    (tmp_path / "in" / "c.jpg").unlink()
    found = again(settings, Pretend(names=str(named(tmp_path, settings))))
    codes = {key: row["error_code"] for key, row in found.items()}
    assert codes == {"a.jpg": None, "b.jpg": "photo-changed", "c.jpg": "not-found"}
    assert "supir run" in found["b.jpg"]["error_message"]
    assert plan_for(replace(settings, presets=(OTHER,))).todo.read()["photo_id"].to_pylist() == ["b.jpg"]


def test_which_photos(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{name}.jpg": jpeg(n) for n, name in enumerate("abc")} | {"bad.jpg": b""})
    settings = settings_for(tmp_path / "in", tmp_path / "out", preset=FIRST)
    restore(settings)
    store = Store(settings.output)

    def ids(where: str | None = None, photos: str | None = None) -> list[str]:
        found: list[str] = earlier(store, where, photos).manifest.photos.read()["photo_id"].to_pylist()
        return found

    assert ids() == ["a.jpg", "b.jpg", "c.jpg"]
    assert ids("photo_id > 'a.jpg' or status = 'failed'") == ["b.jpg", "c.jpg"]
    put(tmp_path, {"ids.txt": "c.jpg\na.jpg\n", "wrong.txt": "bad.jpg\n"})
    assert ids(photos=str(tmp_path / "ids.txt")) == ["a.jpg", "c.jpg"]
    for where, photos, code in (
        ("no_column > 1", None, "sql"),
        ("preset = 'none'", None, "no-photos"),
        (None, "wrong.txt", "manifest"),
    ):
        with pytest.raises(InputError) as raised:
            ids(where, None if photos is None else str(tmp_path / photos))
        assert raised.value.code == code
    assert earlier(store).manifest.photos.schema == rows.CAPTIONED
    assert [(row["model"], row["format"], row["photos"]) for row in earlier(store).made] == [("demo", "png", 3)]
    with pytest.raises(InputError) as raised:
        earlier(Store(str(tmp_path)))
    assert raised.value.code == "no-index"
