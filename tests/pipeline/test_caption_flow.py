"""Captions inside whole runs: several sources, tiny real models, a server that dies, photos that kill, and people."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import flow, index, replacing, report, rows
from pipeline.captions import cache, edits
from pipeline.captions.captioning import Captioning
from pipeline.captions.writers import Read, Writer, load_writers
from pipeline.manifest import read_manifest
from pipeline.restore_stage import LoadRestorer
from pipeline.settings import RunSettings
from pipeline.storage import Store
from pipeline.watch import Clock
from supir_core.caption_text import Caption
from supir_core.errors import WeightsError
from supir_core.presets import derive, load_preset
from tests.core.tiny_captioners import write
from tests.pipeline.caption_server import Server, said
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import TINY, plan_for, settings_for, view

pytestmark = pytest.mark.usefixtures("cluster")

VLM = Captioning(source="sidecar,column,vlm", model="pretended")


@dataclass(frozen=True)
class PretendWriters:
    """Loads a writer that says what it was shown, and keeps a journal of the photos' keys."""

    journal: Path
    poison: tuple[int, int] | None = None  # a photo of this shape kills its worker
    broken: bool = False

    def __call__(self, settings: RunSettings) -> Mapping[str, Writer]:
        if self.broken:
            raise WeightsError("model.safetensors is damaged", hint="fetch it again", code="weights-damaged")
        return {"vlm": PretendWriter(self)}

    def begun(self) -> Counter[str]:
        """How often each photo was looked at."""
        return Counter(self.journal.read_text(encoding="utf-8").split()) if self.journal.exists() else Counter()


@dataclass(frozen=True)
class PretendWriter:
    """No model, but its place."""

    orders: PretendWriters
    digest: str = "pretended000"

    def __call__(self, read: Read, key: str, clock: Clock) -> list[Caption]:
        pixels = read()
        with self.orders.journal.open("a", encoding="utf-8") as journal:
            journal.write(f"{key}\n")
        if pixels.shape[:2] == self.orders.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return [Caption(f"A picture of {pixels.shape[1]} columns.", tokens=5, seconds=0.25)]


def run(settings: RunSettings, writers: Any = load_writers, load: LoadRestorer = Pretend()) -> dict[str, rows.Row]:  # noqa: B008
    """Plan and run; the index's rows."""
    plan = plan_for(settings)
    if plan.todo.num_rows:
        assert flow.run(settings, plan.todo, load=load, load_captions=writers)
    asked = f"select * from photos where preset_digest = '{settings.preset.digest}' order by photo_id"
    return {row["photo_id"]: row for row in index.query(Store(settings.output), asked).to_pylist()}


def pictures_are_as_recorded(output: Path, found: dict[str, rows.Row]) -> bool:
    """Whether every row tells of the picture that lies there."""
    return all(
        hashlib.sha256((output / row["image"]).read_bytes()).hexdigest() == row["sha256"] for row in found.values()
    )


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real LLaVA with random weights."""
    return write("llava", tmp_path_factory.mktemp("models") / "llava")


@pytest.mark.parametrize("mode", ["before", "stream"])
def test_three_sources_in_one_run_with_a_real_model(tmp_path: Path, llava: Path, mode: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "a.txt": "A boy with a dog.", "b.jpg": jpeg(2), "c.jpg": jpeg(3)})
    put(tmp_path / "in", {"d.jpg": jpeg(4), "broken.jpg": b"no photo"})
    put(tmp_path / "in", {"list.csv": "uri,caption\na.jpg,\nb.jpg,from the list\nc.jpg,\nd.jpg,\nbroken.jpg,\n"})
    words = Captioning(source="sidecar,column,vlm", model=str(llava), max_tokens=6, mode=mode, gpus=0.0)
    found = run(settings_for(tmp_path / "in" / "list.csv", tmp_path / "out", captioning=words, gpus_per_worker=0.0))
    assert {key: row["caption_source"] for key, row in found.items()} == {
        "a.jpg": "sidecar",
        "b.jpg": "column",
        "c.jpg": "vlm",
        "d.jpg": "vlm",
        "broken.jpg": "none",
    }
    assert found["broken.jpg"]["error_code"] == "not-an-image"
    seen = [found["c.jpg"], found["d.jpg"]]
    assert all(row["caption"] and row["caption_s"] > 0 and len(row["caption_digest"]) == 12 for row in seen)
    assert seen[0]["caption"] != seen[1]["caption"]
    assert found["a.jpg"]["caption_digest"] is None and found["a.jpg"]["caption_s"] is None


def test_nothing_is_captioned_twice(tmp_path: Path) -> None:
    """Not a copy of a photo, not by a run that follows a kill, and not for another look."""
    put(tmp_path / "in", {"a.jpg": jpeg(1), "again.jpg": jpeg(1), "b.jpg": jpeg(2), "c.jpg": jpeg(3), "c.txt": "c"})
    writers = PretendWriters(tmp_path / "journal")
    first = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM), writers)
    assert [row["caption_source"] for row in first.values()] == ["vlm", "vlm", "vlm", "sidecar"]
    assert len(writers.begun()) == 2 and set(writers.begun().values()) == {1}
    look = derive(load_preset("demo", TINY), ["pull.tau_r=2.5"])
    second = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM, preset=look), writers)
    assert len(second) == 4
    put(tmp_path / "in", {"d.jpg": jpeg(4)})
    third = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM, redo=True), writers)
    assert sorted(writers.begun().values()) == [1, 1, 1], "only d.jpg is new"
    assert first["b.jpg"]["caption_s"] == 0.25 and third["b.jpg"]["caption_s"] is None
    assert first["b.jpg"]["caption"] == third["b.jpg"]["caption"] == "A picture of 56 columns."
    assert first["b.jpg"]["caption_digest"] == third["b.jpg"]["caption_digest"] == "pretended000"


def test_the_endpoint_dies_half_way(tmp_path: Path, server: Server) -> None:
    """The run goes on without captions and says so in every row."""
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n) for n in range(16)})
    server.script = lambda n: said(f"Picture {n}.") if n <= 5 else 503
    words = Captioning(
        source="endpoint", endpoint=server.url, endpoint_model="m", input="photo", requests=1, give_up_after=1
    )
    found = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=words))
    assert {row["status"] for row in found.values()} == {rows.RESTORED}
    captioned = [row for row in found.values() if row["caption"]]
    without = [row for row in found.values() if not row["caption"]]
    assert len(captioned) == 5 and {row["caption_source"] for row in captioned} == {"endpoint"}
    assert all(row["caption_source"] == "none" for row in without)
    warnings = Counter(warning.split(":")[0] for row in without for warning in row["warnings"])
    assert warnings["caption-endpoint-down"] >= 10 and sum(warnings.values()) == 11, warnings
    assert len(server.requests) <= 5 + 5 * words.calls_at_once, "five attempts for those at hand, and no more"

    settings = settings_for(tmp_path / "in", tmp_path / "out", captioning=words)
    plan = plan_for(settings)
    assert (plan.todo.num_rows, plan.done_before, plan.lost_captions) == (0, 16, 11)
    assert report.summarize(Store(settings.output), read_manifest(settings.input), settings.presets).lost_captions == 11


def test_captions_that_an_outage_has_cost_come_when_asked_for(tmp_path: Path, server: Server) -> None:
    """A photo for which there is none again keeps its picture; copies follow the photo whose picture they show."""
    put(
        tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2), "copy.jpg": jpeg(1), "said.jpg": jpeg(3), "said.txt": "x"}
    )
    words = Captioning(
        source="sidecar,endpoint", endpoint=server.url, endpoint_model="m", input="photo", requests=1, give_up_after=1
    )
    server.script = lambda n: 401
    first = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=words))
    assert [row["caption_source"] for row in first.values()] == ["none", "none", "none", "sidecar"]

    again = settings_for(tmp_path / "in", tmp_path / "out", captioning=words, retry_captions=True)
    assert plan_for(again).todo.num_rows == 3
    still_down = run(again, load=Pretend(shade=40))
    assert still_down["b.jpg"]["run"] == first["b.jpg"]["run"], "there is no other caption for it"
    assert pictures_are_as_recorded(tmp_path / "out", still_down)

    server.script = lambda n: said("Words.")
    again = settings_for(tmp_path / "in", tmp_path / "out", captioning=words, retry_captions=True)
    found = run(again, load=Pretend(shade=40))
    assert [(row["caption"], row["caption_source"]) for row in found.values()] == [("Words.", "endpoint")] * 3 + [
        ("x", "sidecar")
    ]
    assert found["said.jpg"] == first["said.jpg"]
    assert pictures_are_as_recorded(tmp_path / "out", found)
    assert replacing.marked(Store(again.output), again.preset.folder) == []
    assert plan_for(again).todo.num_rows == 0 and plan_for(again).lost_captions == 0


def test_a_photo_that_kills_the_captioner_is_restored_without_a_caption(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n}.jpg": jpeg(n) for n in range(6)} | {"deadly.jpg": jpeg(9, 44, 44)})
    writers = PretendWriters(tmp_path / "journal", poison=(44, 44))
    found = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM), writers)
    assert {row["status"] for row in found.values()} == {rows.RESTORED}
    assert found["deadly.jpg"]["caption_source"] == "none"
    assert found["deadly.jpg"]["warnings"] == ["caption-failed: its worker died 3 times while working on it"]
    assert all(row["caption_source"] == "vlm" for key, row in found.items() if key != "deadly.jpg")


@pytest.mark.parametrize("mode", ["before", "stream"])
def test_a_captioner_that_cannot_be_loaded_ends_the_run(tmp_path: Path, mode: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    words = Captioning(source="vlm", model="pretended", mode=mode)
    with pytest.raises(WeightsError, match="is damaged"):
        run(
            settings_for(tmp_path / "in", tmp_path / "out", captioning=words),
            PretendWriters(tmp_path / "journal", broken=True),
        )


def test_captions_of_tiles_are_read_by_the_windows(tmp_path: Path, llava: Path) -> None:
    put(tmp_path / "in", {"wide.jpg": jpeg(1, 64, 128), "small.jpg": jpeg(2, 32, 32)})
    small = ["size.upscale=1", "size.min_size_px=64", "tile.size_lat=16", "tile.stride_lat=16", "tile.mode=published"]
    words = Captioning(source="vlm", model=str(llava), max_tokens=6, per_tile=True, mode="before", gpus=0.0)
    settings = settings_for(
        tmp_path / "in",
        tmp_path / "out",
        captioning=words,
        preset=derive(load_preset("demo", TINY), small),
        gpus_per_worker=0.0,
    )
    plan = plan_for(settings)
    assert flow.run(settings, plan.todo)  # the real networks
    found = view(tmp_path / "out")
    assert len(found["wide.jpg"]["tile_captions"]) == 2 and not found["small.jpg"]["tile_captions"]
    assert {row["status"] for row in found.values()} == {rows.RESTORED}


def test_people_have_the_last_word(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{name}.jpg": jpeg(n) for n, name in enumerate("abc")})
    writers = PretendWriters(tmp_path / "journal")
    settings = settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM)
    before = run(settings, writers)
    store = Store(str(tmp_path / "out"))
    edits.append(store, [{"photo_id": "a.jpg", "caption": "Aunt Emma"}, {"photo_id": "b.jpg", "caption": "x"}])
    edits.append(store, [{"photo_id": "b.jpg", "caption": ""}])
    again = settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM)
    plan = plan_for(again)
    assert plan.todo.read()["photo_id"].to_pylist() == ["a.jpg", "b.jpg"] and plan.done_before == 1
    after = run(again, writers)
    assert [(row["caption"], row["caption_source"]) for row in after.values()] == [
        ("Aunt Emma", "edited"),
        ("", "edited"),
        (before["c.jpg"]["caption"], "vlm"),
    ]
    assert plan_for(settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM)).todo.num_rows == 0
    look = derive(load_preset("demo", TINY), ["pull.tau_r=2.5"])
    other = settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM, preset=look)
    run(other, writers)
    assert set(writers.begun().values()) == {1}


def test_a_picture_that_is_made_again_for_peoples_words_takes_its_copies_along(tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(1), "c.jpg": jpeg(1), "d.jpg": jpeg(2)})
    output = tmp_path / "out"
    first = run(settings_for(tmp_path / "in", output))
    (original,) = {row["duplicate_of"] for row in first.values()} - {None}
    edits.append(Store(str(output)), [{"photo_id": original, "caption": "Aunt Emma"}])
    settings = settings_for(tmp_path / "in", output)
    found = run(settings, load=Pretend(shade=40))
    assert found[original]["caption"] == "Aunt Emma" and found["d.jpg"] == first["d.jpg"]
    assert found[original]["sha256"] != first[original]["sha256"]
    copies = {row["duplicate_of"] for key, row in found.items() if key not in (original, "d.jpg")}
    assert original not in copies and len(copies) == 2, "one of the two is the picture of the other now"
    assert pictures_are_as_recorded(output, found)
    assert replacing.marked(Store(str(output)), settings.preset.folder) == []
    assert plan_for(settings_for(tmp_path / "in", output)).todo.num_rows == 0


def test_what_is_kept_is_one_object_per_content(tmp_path: Path) -> None:
    store, written = Store(str(tmp_path)), cache.Written("Straße", ["a", "b"], 0.5, 9)
    assert cache.find(store, "d1", "ab12") is None
    cache.keep(store, "d1", "ab12", written)
    assert cache.find(store, "d1", "ab12") == written and cache.find(store, "d2", "ab12") is None
    (place,) = tmp_path.rglob("*.json")
    assert json.loads(place.read_text(encoding="utf-8"))["text"] == "Straße"
    place.write_text("{")
    assert cache.find(store, "d1", "ab12") is None, "it will be written again"


def test_a_photo_that_is_refused_is_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1, 300, 300)})
    writers = PretendWriters(tmp_path / "journal")
    found = run(settings_for(tmp_path / "in", tmp_path / "out", captioning=VLM, max_megapixels=0.1), writers)
    assert found["a.jpg"]["error_code"] == "too-large" and not writers.begun()
