"""What a restore worker does with a photo. The stage is a plain class: here it runs without a pool around it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from PIL import Image

from pipeline import commit, flow, rows
from pipeline.attempts import MAX_ATTEMPTS, start_attempts
from pipeline.caption_stage import CaptionStage
from pipeline.captions.writers import load_writers
from pipeline.manifest import read_manifest
from pipeline.photos.decode import decode
from pipeline.release import release
from pipeline.restore_stage import LoadRestorer, RestoreStage
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core.presets import load_preset
from supir_core.restorer import Photo, Restored, Restorer
from tests.pipeline.photographs import encoded, jpeg, picture, put, tiff_16_bit_rgb
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import TINY, plan_for, settings_for, view


@pytest.fixture
def attempts(cluster: None) -> Any:
    """A handle of a real `Attempts` actor."""
    return start_attempts()


def finished(settings: RunSettings, attempts: Any, load: LoadRestorer | None = None) -> dict[str, Row]:
    """The rows of all photos of the input, which come to the stages at once."""
    stage = RestoreStage(settings.to_dict(), torch.get_num_threads(), attempts, load or Pretend(), release())
    captions = CaptionStage(settings.to_dict(), torch.get_num_threads(), start_attempts(), load_writers, release())
    photos = captions(read_manifest(settings.input).photos.read())
    with ThreadPoolExecutor(max_workers=16) as pool:
        tables = list(pool.map(stage, [photos.slice(n, 1) for n in range(photos.num_rows)]))
    assert all(table.schema == rows.INDEX and table.num_rows == 1 for table in tables)
    return {row["photo_id"]: row for table in tables for row in table.to_pylist()}


def codes(found: dict[str, Row]) -> dict[str, str | None]:
    return {photo_id: row["error_code"] for photo_id, row in found.items()}


def test_each_failure_is_one_photos(tmp_path: Path, attempts: Any) -> None:
    """A bug, too little memory, too large for the limits: neighbours in the same batch are restored."""
    put(tmp_path / "in", {f"{n}.jpg": jpeg(n) for n in range(4)})
    put(tmp_path / "in", {"fault.jpg": jpeg(21), "hunger.jpg": jpeg(22), "large.jpg": jpeg(0, 300, 300)})
    put(tmp_path / "in", {"long.jpg": encoded(picture(16, 8200)), f"{'n' * 250}.jpg": jpeg(23)})
    settings = settings_for(tmp_path / "in", tmp_path / "out", photos_per_batch=8, max_megapixels=0.3, format="webp")
    found = finished(settings, attempts, Pretend(seconds=0.2))
    assert codes(found) == {
        **{f"{n}.jpg": None for n in range(4)},
        f"{'n' * 250}.jpg": "name-too-long",
        "fault.jpg": "internal-error",
        "hunger.jpg": "out-of-memory",
        "large.jpg": "too-large",
        "long.jpg": "output-limit",
    }
    assert "RuntimeError: this restorer has a fault" in found["fault.jpg"]["error_message"]


def test_not_a_number_is_not_a_picture(tmp_path: Path, attempts: Any) -> None:
    """Networks in half precision can overflow; a black picture must not count as restored."""
    put(tmp_path / "in", {"black.jpg": jpeg(1), "fine.jpg": jpeg(2)})
    found = finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)
    assert {key: row["status"] for key, row in found.items()} == {"black.jpg": rows.FAILED, "fine.jpg": rows.RESTORED}


def test_a_list_brings_ids_and_captions(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path, {"scans/a.jpg": jpeg(1), "scans/b.jpg": jpeg(2), "scans/b.txt": "beside b", "scans/c.jpg": jpeg(3)})
    listed = f"uri,photo_id,caption\nscans/a.jpg,7,from the list\nscans/b.jpg,5,hidden\n{tmp_path}/scans/c.jpg,9,\n"
    put(tmp_path, {"list.csv": listed + "scans/missing.jpg,1,\nfloppy://x/y.jpg,2,\nscans,3,\n"})
    settings = settings_for(tmp_path / "list.csv", tmp_path / "out")
    found = finished(settings, attempts)
    assert {key: (row["caption"], row["caption_source"]) for key, row in found.items()} == {
        "1": ("", "none"),
        "2": ("", "none"),
        "3": ("", "none"),
        "5": ("beside b", "sidecar"),
        "7": ("from the list", "column"),
        "9": ("", "none"),
    }
    assert {key: code for key, code in codes(found).items() if code} == {
        "1": "not-found",
        "2": "uri-refused",
        "3": "storage",
    }
    assert found["7"]["image"] == f"images/{settings.preset.folder}/scans/a.jpg.png"
    assert (tmp_path / "out" / found["9"]["image"]).is_file()


class Reader:
    """A pretended restorer that keeps what it is given to read."""

    def __init__(self) -> None:
        self.read: list[tuple[str, bool]] = []  # captions, and whether the preset's own words come after them

    def __call__(self, settings: RunSettings) -> Reader:
        self._restorer = Pretend()(settings)
        return self

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        self.read += [(photo.caption, bool(photo.preset.text.positive)) for photo in photos]
        return self._restorer.restore(photos)


def test_a_prompt_is_all_that_the_networks_read(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path, {"a.jpg": jpeg(1), "a.txt": "beside a", "b.jpg": jpeg(1), "c.jpg": jpeg(1)})
    put(tmp_path, {"list.csv": "uri,prompt,caption\na.jpg,a street,\nb.jpg,,a street\nc.jpg,a street,hidden\n"})
    settings = settings_for(tmp_path / "list.csv", tmp_path / "out")
    reader = Reader()
    found = finished(settings, attempts, reader)
    assert sorted(reader.read) == [("a street", False), ("a street", True)], "c is a copy of a, b is not"
    assert {key: row["caption_source"] for key, row in found.items()} == {
        "a.jpg": "prompt",
        "b.jpg": "column",
        "c.jpg": "prompt",
    }
    assert [found[name]["duplicate_of"] for name in ("a.jpg", "b.jpg", "c.jpg")].count(None) == 2
    assert found["a.jpg"]["preset_digest"] == found["b.jpg"]["preset_digest"] == settings.preset.digest


def test_a_photo_that_was_begun_too_often_is_given_up(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    for _ in range(MAX_ATTEMPTS):
        attempts.risk.remote("a.jpg")
    attempts.risk.remote("b.jpg")  # its neighbour, or the machine, has died; it gets another chance
    orders = Pretend(tmp_path / "journal")
    found = finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts, orders)
    assert codes(found) == {"a.jpg": "worker-crashed", "b.jpg": None}
    assert set(orders.begun()) == {"b.jpg"}


def test_what_has_a_record_is_not_restored_again(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": b"", "fault.jpg": jpeg(2)})
    first = finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)
    orders = Pretend(tmp_path / "journal")
    again = finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts, orders)
    assert all(again[key] == row | {"commit_s": None} for key, row in first.items())
    assert orders.begun() == {}


def test_failures_are_tried_again_when_asked(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": b"", "fault.jpg": jpeg(2)})
    finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)
    orders = Pretend(tmp_path / "journal")
    again = finished(settings_for(tmp_path / "in", tmp_path / "out", retry_failed=True), attempts, orders)
    assert set(orders.begun()) == {"fault.jpg"}, "the empty one fails before the networks"
    assert again["b.jpg"]["run"] != again["a.jpg"]["run"]


def test_one_file_under_two_ids_has_its_second_refused(tmp_path: Path, attempts: Any) -> None:
    """Else its picture would replace the first one's, whose row would no longer be true."""
    put(tmp_path, {"a.jpg": jpeg(1), "1.csv": "uri,photo_id\na.jpg,one\n", "2.csv": "uri,photo_id\na.jpg,two\n"})
    assert set(finished(settings_for(tmp_path / "1.csv", tmp_path / "out"), attempts)) == {"one"}
    assert codes(finished(settings_for(tmp_path / "2.csv", tmp_path / "out"), attempts)) == {"two": "output-taken"}


def test_what_is_done_can_be_done_again(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    first = finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)["a.jpg"]
    (tmp_path / "out" / first["image"]).unlink()
    again = settings_for(tmp_path / "in", tmp_path / "out", redo=True)
    assert plan_for(again).todo.num_rows == 1
    redone = finished(again, attempts)["a.jpg"]
    assert (redone["run"], redone["sha256"]) == (again.run, first["sha256"])
    assert (tmp_path / "out" / first["image"]).is_file()
    assert finished(again, attempts)["a.jpg"]["finished_at"] == redone["finished_at"], "once per run is enough"


def test_photos_that_cannot_be_read_say_why(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.JXL": b"x", "b.nef": b"x", "c.png": encoded_alpha()})
    found = finished(settings_for(tmp_path / "in", tmp_path / "out", format="jpeg"), attempts)
    assert codes(found) == {"a.JXL": "unsupported-format", "b.nef": "raw-photo", "c.png": None}
    assert found["c.png"]["warnings"] == ["alpha-dropped"]


def encoded_alpha() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (32, 32), (200, 100, 50, 128)).save(out, "PNG")
    return out.getvalue()


def test_a_record_of_another_model_is_no_proof(tmp_path: Path, attempts: Any) -> None:
    """A run that was killed before it wrote its index may have used other weights."""
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)
    other = settings_for(tmp_path / "in", tmp_path / "out", model_digest="f" * 12)
    assert finished(other, attempts)["a.jpg"]["model_digest"] == "f" * 12


def test_a_damaged_record_is_one_photos_trouble(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    settings = settings_for(tmp_path / "in", tmp_path / "out")
    Store(settings.output).write(commit.record_path(settings.preset.folder, "b.jpg"), b"{")
    found = finished(settings, attempts)
    assert codes(found) == {"a.jpg": None, "b.jpg": "storage"}
    assert "delete it" in found["b.jpg"]["error_message"]


def test_an_output_that_cannot_be_written_is_a_row(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    settings = settings_for(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / commit.image_path(settings.preset.folder, "b.jpg", "png")).mkdir(parents=True)
    found = finished(settings, attempts)
    assert codes(found) == {"a.jpg": None, "b.jpg": "storage"}
    assert [found["b.jpg"][name] for name in ("image", "bytes", "sha256")] == [None, None, None]


class Watched:
    """A restorer, and the sizes of its batches."""

    def __init__(self, restorer: Restorer):
        self._restorer = restorer
        self.sizes: list[int] = []

    def __call__(self, settings: RunSettings) -> Watched:
        self.sizes = []
        return self

    def restore(self, photos: Sequence[Photo]) -> list[Restored]:
        self.sizes.append(len(photos))
        return self._restorer.restore(photos)


def test_the_real_networks_give_a_photo_the_same_in_any_company(tmp_path: Path, attempts: Any) -> None:
    """Demo weights: alone in two processes bit for bit, and in a batch within one 8-bit level."""
    put(tmp_path / "in", {f"{n}.jpg": jpeg(n, 32, 32 + 8 * n) for n in range(4)} | {"1.txt": "a garden"})
    alone = settings_for(tmp_path / "in", tmp_path / "alone")
    flow.run(alone, plan_for(alone).todo)
    by_flow = view(tmp_path / "alone")
    assert {row["status"] for row in by_flow.values()} == {rows.RESTORED}

    restorer = Watched(Restorer.load("demo", device="cpu"))
    again = finished(settings_for(tmp_path / "in", tmp_path / "again"), attempts, restorer)
    assert {key: row["sha256"] for key, row in again.items()} == {key: row["sha256"] for key, row in by_flow.items()}

    together = finished(settings_for(tmp_path / "in", tmp_path / "together", photos_per_batch=3), attempts, restorer)
    assert max(restorer.sizes) > 1
    for key, row in together.items():
        one = np.asarray(Image.open(tmp_path / "alone" / by_flow[key]["image"])).astype(int)
        other = np.asarray(Image.open(tmp_path / "together" / row["image"])).astype(int)
        assert np.abs(one - other).max() <= 1


def test_one_content_is_restored_once(tmp_path: Path, attempts: Any) -> None:
    """Also where all come at once; a caption makes other work of it."""
    put(tmp_path / "in", {f"{n}.jpg": jpeg(1) for n in range(6)} | {"other.jpg": jpeg(2)})
    put(tmp_path / "in", {"captioned.jpg": jpeg(1), "captioned.txt": "a street"})
    orders = Pretend(tmp_path / "journal", seconds=0.1)
    settings = settings_for(tmp_path / "in", tmp_path / "out", photos_per_batch=4)
    found = finished(settings, attempts, orders)
    assert sum(orders.begun().values()) == 3
    (first,) = (row for key, row in found.items() if key[0].isdigit() and not row["duplicate_of"])
    for key, row in found.items():
        if key[0].isdigit() and row is not first:
            assert row["duplicate_of"] == first["photo_id"]
            same = ("image", "sha256", "bytes", "width", "height", "source_sha256", "source_width", "source_format")
            assert [row[name] for name in same] == [first[name] for name in same]
            assert row["source_uri"].endswith(key) and row["restore_s"] is None
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3
    assert all(
        finished(settings, attempts, orders)[key]["finished_at"] == row["finished_at"] for key, row in found.items()
    )


def test_a_failure_is_nobody_elses(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"1-fault.jpg": jpeg(1), "2.jpg": jpeg(1)})
    assert set(codes(finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)).values()) == {
        "internal-error"
    }


def again(settings: RunSettings, attempts: Any, load: LoadRestorer, **changes: Any) -> dict[str, Row]:
    """What a later run over the same input gives."""
    return finished(settings_for(settings.input, settings.output, **changes), attempts, load)


def test_a_duplicate_leaves_a_photo_that_changes(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    settings, orders = settings_for(tmp_path / "in", tmp_path / "out"), Pretend(tmp_path / "journal")
    before = finished(settings, attempts, orders)["a.jpg"]
    put(tmp_path / "in", {"b.jpg": jpeg(1)})
    assert again(settings, attempts, orders)["b.jpg"]["duplicate_of"] == "a.jpg"
    put(tmp_path / "in", {"a.jpg": jpeg(5)})
    found = again(settings, attempts, orders)
    assert found["b.jpg"]["duplicate_of"] is None and found["b.jpg"]["sha256"] == before["sha256"]
    assert found["b.jpg"]["image"] != found["a.jpg"]["image"]
    put(tmp_path / "in", {"c.jpg": jpeg(1)})
    assert again(settings, attempts, orders)["c.jpg"]["duplicate_of"] == "b.jpg", "which has taken the claim"


def test_a_claim_proves_nothing_by_itself(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    settings = settings_for(tmp_path / "in", tmp_path / "out")
    finished(settings, attempts)
    (tmp_path / "out" / commit.record_path(settings.preset.folder, "a.jpg")).unlink()
    put(tmp_path / "in", {"b.jpg": jpeg(1)})
    found = again(settings, attempts, Pretend())
    assert sorted(row["duplicate_of"] or "" for row in found.values()) in [["", "a.jpg"], ["", "b.jpg"]]
    for claim in (tmp_path / "out").rglob("claims/*/*/*.json"):
        claim.write_bytes(b"{")
    put(tmp_path / "in", {"c.jpg": jpeg(1)})
    assert again(settings, attempts, Pretend())["c.jpg"]["duplicate_of"] is None


def test_what_is_done_again_is_not_taken_from_an_earlier_run(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(1)})
    settings, orders = settings_for(tmp_path / "in", tmp_path / "out"), Pretend(tmp_path / "journal")
    finished(settings, attempts)
    found = again(settings, attempts, orders, redo=True)
    assert sum(orders.begun().values()) == 1
    assert sorted(bool(row["duplicate_of"]) for row in found.values()) == [False, True]
    assert len({row["run"] for row in found.values()} | {settings.run}) == 2


def test_a_run_that_is_being_ended_leaves_what_it_has_not_begun(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    settings = settings_for(tmp_path / "in", tmp_path / "out")
    finished(settings, attempts)
    put(tmp_path / "in", {"b.jpg": jpeg(2)})
    attempts.drain.remote()
    found = again(settings, attempts, Pretend())
    assert {key: row["status"] for key, row in found.items()} == {"a.jpg": rows.RESTORED, "b.jpg": rows.LEFT}
    assert len(list((tmp_path / "out" / "records").rglob("*.json"))) == 1


def test_a_photo_does_not_fail_because_its_run_was_killed(tmp_path: Path, attempts: Any) -> None:
    """Workers outlive a killed driver by seconds, and the actor that counts attempts by less."""

    class Fatal:
        def __call__(self, settings: RunSettings) -> Fatal:
            return self

        def restore(self, photos: Sequence[Photo]) -> list[Restored]:
            ray.kill(attempts)
            return [Restored(torch.zeros(1, 3, 64, 64), []) for _ in photos]

    put(tmp_path / "in", {"a.jpg": jpeg(1)})
    settings = settings_for(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ray.exceptions.RayError):
        finished(settings, attempts, Fatal())
    assert not list((tmp_path / "out").rglob("*.json")), "no record, so that the next run begins it"


def test_some_photos_are_left_as_they_are(tmp_path: Path, attempts: Any) -> None:
    """Pages of one bit, what is larger than its result would be, what is sharp; until asked for otherwise."""
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    page = encoded(picture(64, 64).convert("1"), "TIFF")
    put(tmp_path / "in", {"page.tif": page, "large.jpg": jpeg(1, 100, 120), "sharp.png": encoded(noise, "PNG")})
    put(tmp_path / "in", {"small.jpg": jpeg(2, 40, 40)})
    preset = load_preset("demo", [*TINY, "size.short_side_px=96"])
    orders = Pretend(tmp_path / "journal")
    settings = settings_for(tmp_path / "in", tmp_path / "out", presets=(preset,), skip_if_sharper_than=1000.0)
    found = finished(settings, attempts, orders)
    assert {key: (row["status"], row["skip_reason"]) for key, row in found.items()} == {
        "large.jpg": (rows.SKIPPED, "large-enough"),
        "page.tif": (rows.SKIPPED, "bilevel"),
        "sharp.png": (rows.SKIPPED, "sharp-enough"),
        "small.jpg": (rows.RESTORED, None),
    }
    assert set(orders.begun()) == {"small.jpg"} and found["page.tif"]["image"] is None
    again = settings_for(tmp_path / "in", tmp_path / "out", presets=(preset,), restore_all=True)
    assert {row["status"] for row in finished(again, attempts, orders).values()} == {rows.RESTORED}


def test_results_are_in_kind_with_a_record_of_how_they_came_about(tmp_path: Path, attempts: Any) -> None:
    """Depth and format are the photo's, and the record says all that it takes to make the result again."""
    half = jpeg(3, 200, 200)[:-2000]
    put(tmp_path / "in", {"a.tif": tiff_16_bit_rgb(64), "b.webp": encoded(picture(), "WEBP"), "half.jpg": half})
    settings = settings_for(tmp_path / "in", tmp_path / "out", format="keep", accept_damaged=True)
    found = finished(settings, attempts)
    made = {key: (row["image"].rpartition(".")[2], row["bits"], row["source_bits"]) for key, row in found.items()}
    assert made == {"a.tif": ("tif", 16, 16), "b.webp": ("webp", 8, 8), "half.jpg": ("jpg", 8, 8)}
    assert found["half.jpg"]["source_whole"] < 1 and found["half.jpg"]["warnings"][0].startswith("damaged: ")
    result = decode((tmp_path / "out" / found["a.tif"]["image"]).read_bytes())
    assert np.abs(result.pixels.astype(int) - [1, 30000, 65535]).max() <= 257, "the pretended networks know 8 bits"
    record = commit.find(Store(settings.output), settings.preset.folder, "a.tif", "a.tif")
    assert record is not None
    for name in ("source_sha256", "sha256", "preset_digest", "model_digest", "seed", "caption_source", "libraries"):
        assert record[name] not in (None, ""), name
    assert record["evidence"]["de_mean"] < 1 and record["review"] == []
    assert record["document_id"].encode() in (tmp_path / "out" / record["image"]).read_bytes()


def test_damaged_photos_fail_until_they_are_accepted(tmp_path: Path, attempts: Any) -> None:
    put(tmp_path / "in", {"half.jpg": jpeg(3, 200, 200)[:-2000], "fine.jpg": jpeg(1)})
    first = finished(settings_for(tmp_path / "in", tmp_path / "out"), attempts)["half.jpg"]
    assert (first["error_code"], first["status"]) == ("damaged", rows.FAILED) and 0 < first["source_whole"] < 1
    again = settings_for(tmp_path / "in", tmp_path / "out", accept_damaged=True)
    assert {row["status"] for row in finished(again, attempts).values()} == {rows.RESTORED}
