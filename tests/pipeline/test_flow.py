"""The whole path on real Ray, with a pretended restorer: folders and lists in, pictures, records and index out."""

from __future__ import annotations

import hashlib
import io
import threading
from pathlib import Path

import pytest
import ray
from PIL import Image

from pipeline import commit, flow, replacing, rows
from pipeline.attempts import MAX_ATTEMPTS, start_attempts
from pipeline.captions.writers import load_writers
from pipeline.rows import Row
from pipeline.settings import RunSettings
from pipeline.shares import share_machines
from pipeline.storage import Store
from supir_core.errors import InputError, WeightsError
from tests.pipeline.photographs import BAD, encoded, jpeg, picture, put
from tests.pipeline.pretend import Pretend
from tests.pipeline.runs import plan_for, raw_rows, restore, settings_for, view

pytestmark = pytest.mark.usefixtures("cluster")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(40, 56), exif=exif)


def with_alpha() -> bytes:
    image = picture()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return encoded(image, "PNG")


GOOD = {
    "portrait.jpg": jpeg(1),
    "portrait.png": encoded(picture(), "PNG"),  # another photo; it shares the caption
    "album 1/Größe [x] #1 100%.JPG": jpeg(2),
    "album 1/deep/er/grey.png": encoded(picture().convert("L"), "PNG"),
    "album 1/alpha.png": with_alpha(),
    "turned.jpg": turned(),
    "really-a-png.jpg": encoded(picture(), "PNG"),
}
BESIDE = {
    "portrait.txt": "A boy\nwith a dog.",
    "album 1/Größe [x] #1 100%.JPG.txt": "größe",
    "notes.md": "not a photo",
}


class Archive:
    """A folder of good and bad photos that has been restored."""

    def __init__(self, folder: Path):
        put(folder / "in", GOOD | {f"bad/{name}": data for name, (_, data) in BAD.items()} | BESIDE)
        self.settings = settings_for(folder / "in", folder / "out", workers=2)
        restore(self.settings)
        self.rows = view(folder / "out")
        self.output = folder / "out"

    def image(self, photo_id: str) -> Image.Image:
        return Image.open(self.output / self.rows[photo_id]["image"])


@pytest.fixture(scope="module")
def archive(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return Archive(tmp_path_factory.mktemp("archive [1] #ü"))


def test_every_photo_has_exactly_one_row(archive: Archive) -> None:
    assert set(archive.rows) == set(GOOD) | {f"bad/{name}" for name in BAD}
    assert len(raw_rows(archive.output)) == len(archive.rows)


def test_good_photos_are_restored_and_bad_ones_say_why(archive: Archive) -> None:
    codes = {photo_id: row["error_code"] for photo_id, row in archive.rows.items() if row["status"] == rows.FAILED}
    assert codes == {f"bad/{name}": code for name, (code, _) in BAD.items()}
    for photo_id in codes:
        row = archive.rows[photo_id]
        assert row["error_message"] and row["image"] is None and row["sha256"] is None
        assert row["source_bytes"] == len(BAD[photo_id.removeprefix("bad/")][1])


def test_pictures_lie_where_photo_and_look_say(archive: Archive) -> None:
    look = archive.settings.preset.folder
    assert look == f"demo-{archive.settings.preset.digest}"
    for photo_id in GOOD:
        assert archive.rows[photo_id]["image"] == f"images/{look}/{photo_id}.png"
    files = {str(path.relative_to(archive.output)) for path in archive.output.rglob("images/**/*") if path.is_file()}
    assert files == {archive.rows[photo_id]["image"] for photo_id in GOOD}


def test_pictures_are_what_their_rows_say(archive: Archive) -> None:
    for photo_id, source in GOOD.items():
        row = archive.rows[photo_id]
        data = (archive.output / row["image"]).read_bytes()
        assert (row["bytes"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (row["source_bytes"], row["source_sha256"]) == (len(source), hashlib.sha256(source).hexdigest())
        assert Image.open(io.BytesIO(data)).size == (row["width"], row["height"])
        assert (row["width"], row["height"]) == (2 * row["source_width"], 2 * row["source_height"])


def test_results_are_in_kind(archive: Archive) -> None:
    assert archive.image("album 1/deep/er/grey.png").mode == "L"
    assert archive.image("album 1/alpha.png").mode == "RGBA"
    assert archive.image("turned.jpg").size == (80, 112), "upright"
    assert archive.rows["really-a-png.jpg"]["source_format"] == "PNG"


def test_captions_come_from_the_files_beside(archive: Archive) -> None:
    captions = {photo_id: (row["caption"], row["caption_source"]) for photo_id, row in archive.rows.items()}
    assert captions["portrait.jpg"] == captions["portrait.png"] == ("A boy with a dog.", "sidecar")
    assert captions["album 1/Größe [x] #1 100%.JPG"] == ("größe", "sidecar")
    assert captions["turned.jpg"] == ("", "none")


def test_rows_say_how_they_came_about(archive: Archive) -> None:
    row = archive.rows["portrait.jpg"]
    assert (row["preset"], row["preset_digest"]) == ("demo", archive.settings.preset.digest)
    assert (row["model"], row["model_digest"]) == ("demo", archive.settings.model_digest)
    assert row["tau_r"] == archive.settings.preset.pull.tau_r
    assert row["run"] == archive.settings.run
    assert row["source_uri"] == str(Path(archive.settings.input) / "portrait.jpg")
    assert row["seconds"] >= row["restore_s"] >= 0 and row["worker"] and row["supir_version"]


def test_every_row_has_its_record(archive: Archive) -> None:
    for photo_id, row in archive.rows.items():
        record = commit.find(Store(str(archive.output)), archive.settings.preset.folder, photo_id, photo_id)
        assert record is not None
        assert (record["sha256"], record["error_code"]) == (row["sha256"], row["error_code"])


def test_a_second_run_has_nothing_to_do(archive: Archive) -> None:
    plan = plan_for(archive.settings)
    assert (plan.todo.num_rows, plan.done_before, plan.failed_before) == (0, len(GOOD), len(BAD))


@pytest.fixture
def small(tmp_path: Path) -> RunSettings:
    """Four good photos."""
    put(tmp_path / "in", {f"{name}.jpg": jpeg(seed) for seed, name in enumerate("abcd")})
    return settings_for(tmp_path / "in", tmp_path / "out")


def test_the_stages_are_two_pools_of_actors_with_a_block_for_every_photo(tmp_path: Path) -> None:
    """Ray fuses stages of equal needs without a word; then nothing overlaps, and a crash redoes whole blocks."""
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n) for n in range(12)})
    settings = settings_for(tmp_path / "in", tmp_path / "out", photos_per_batch=3, gpus_per_worker=0.0)
    orders = Pretend(tmp_path / "journal", seconds=0.3)
    shares = share_machines(settings, 2.0)
    todo = ray.data.from_arrow(plan_for(settings).todo.read()).repartition(target_num_rows_per_block=1)
    photos = flow.captioned(settings, todo, shares, start_attempts(), load_writers)
    photos = flow.restored(settings, photos, shares, start_attempts(), orders)
    blocks = [batch.num_rows for batch in photos.iter_batches(batch_size=None, batch_format="pyarrow")]
    assert blocks == [1] * 12
    operators = [line for line in photos.stats().splitlines() if line.startswith("Operator ")]
    stages = [line for line in operators if "MapBatches" in line]
    assert [line.split(":")[0].split(" ", 2)[2] for line in stages] == [
        "MapBatches(CaptionStage)",
        "MapBatches(RestoreStage)",
    ], operators
    assert all(": 12 tasks executed, 12 blocks produced" in line for line in stages), stages
    sizes = [len(ids) for _, ids in orders.batches()]
    assert max(sizes) == 3 and sum(sizes) == 12, "photos of several blocks share the networks' batches"


def test_two_pretended_gpus_are_two_workers(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n) for n in range(24)})
    orders = Pretend(tmp_path / "journal", company=2)
    restore(settings_for(tmp_path / "in", tmp_path / "out", workers=None, gpus_per_worker=1.0), orders)
    found = view(tmp_path / "out")
    assert len({row["worker"] for row in found.values()}) == 2
    assert len({pid for pid, _ in orders.batches()}) == 2
    assert set(orders.begun().values()) == {1}, "no photo was restored twice"


def test_a_cluster_that_is_smaller_than_asked_for_works_with_what_it_has(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n:02d}.jpg": jpeg(n) for n in range(12)})
    restore(settings_for(tmp_path / "in", tmp_path / "out", workers=4, gpus_per_worker=1.0))
    found = view(tmp_path / "out")
    assert len(found) == 12 and len({row["worker"] for row in found.values()}) <= 2


def test_more_gpus_than_there_are(small: RunSettings) -> None:
    greedy = RunSettings(**{**small.__dict__, "gpus_per_worker": 8.0})
    with pytest.raises(InputError, match="2 GPUs") as error:
        restore(greedy, Pretend())
    assert error.value.code == "no-gpu"


def test_wrong_weights_end_the_run(small: RunSettings) -> None:
    with pytest.raises(WeightsError, match="is damaged") as error:
        restore(small, Pretend(broken=True))
    assert (error.value.code, error.value.hint) == ("weights-damaged", "fetch it again")


def test_a_photo_that_kills_its_worker_is_given_up_and_its_neighbours_are_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "in", {f"{n}.jpg": jpeg(n) for n in range(8)} | {"4-poison.jpg": jpeg(99)})
    orders = Pretend(tmp_path / "journal", seconds=0.1)
    restore(settings_for(tmp_path / "in", tmp_path / "out", photos_per_batch=2), orders)
    found = view(tmp_path / "out")
    assert {key: row["error_code"] for key, row in found.items()} == {
        **{f"{n}.jpg": None for n in range(8)},
        "4-poison.jpg": "worker-crashed",
    }
    assert orders.begun()["4-poison.jpg"] == MAX_ATTEMPTS
    assert len(raw_rows(tmp_path / "out")) == 9
    assert capsys.readouterr().out == "", "Ray's words on dead workers do not belong to what a script reads"


def finished_at(found: dict[str, Row]) -> dict[str, object]:
    return {photo_id: row["finished_at"] for photo_id, row in found.items()}


def test_what_changes_between_runs(tmp_path: Path) -> None:
    """A changed photo is restored again, a failure when asked for, a photo with a record but no row is only indexed."""
    source, output = tmp_path / "in", tmp_path / "out"
    put(source, {"changes.jpg": jpeg(1), "stays.jpg": jpeg(2), "mended.jpg": b"", "fault.jpg": jpeg(3)})
    restore(settings_for(source, output))
    first = view(output)
    assert (first["mended.jpg"]["error_code"], first["fault.jpg"]["error_code"]) == ("empty", "internal-error")

    put(source, {"changes.jpg": jpeg(7), "mended.jpg": jpeg(8), "new.jpg": jpeg(9)})
    orders = Pretend(tmp_path / "journal")
    restore(settings_for(source, output), orders)
    second = view(output)
    assert set(orders.begun()) == {"changes.jpg", "mended.jpg", "new.jpg"}
    assert second["mended.jpg"]["status"] == rows.RESTORED
    assert second["changes.jpg"]["sha256"] != first["changes.jpg"]["sha256"]
    assert second["stays.jpg"] == first["stays.jpg"]

    for part in (output / "index").iterdir():  # as if every run had been killed before it wrote a part
        part.unlink()
    orders = Pretend(tmp_path / "journal again")
    plan = restore(settings_for(source, output), orders)
    assert plan.todo.num_rows == 5
    assert orders.begun() == {}, "records are proof enough"
    assert finished_at(view(output)) == finished_at(second)
    assert len(raw_rows(output)) == 5


def test_a_photo_that_takes_too_long_is_given_up_and_its_neighbours_are_restored(tmp_path: Path) -> None:
    put(tmp_path / "in", {f"{n}.jpg": jpeg(n) for n in range(5)} | {"2-sleepy.jpg": jpeg(99)})
    orders = Pretend(tmp_path / "journal")
    restore(settings_for(tmp_path / "in", tmp_path / "out", photos_per_batch=2, photo_timeout_s=6.0), orders)
    found = view(tmp_path / "out")
    assert {key: row["error_code"] for key, row in found.items()} == {
        **{f"{n}.jpg": None for n in range(5)},
        "2-sleepy.jpg": "timed-out",
    }
    assert "6 s (--photo-timeout allows more" in found["2-sleepy.jpg"]["error_message"]
    assert orders.begun()["2-sleepy.jpg"] <= 2, "once in company perhaps, and once alone"
    assert len(raw_rows(tmp_path / "out")) == 6


def test_copies_show_one_picture(tmp_path: Path) -> None:
    """On several workers at once a content may be restored twice, but rows, records and pictures agree."""
    source, output = tmp_path / "in", tmp_path / "out"
    put(source, {f"{n % 3}/{n:02d}.jpg": jpeg(n % 4) for n in range(24)})
    orders = Pretend(tmp_path / "journal", seconds=0.1)
    restore(settings_for(source, output, workers=2, gpus_per_worker=1.0, photos_per_batch=2), orders)
    found = view(output)
    assert len(found) == 24
    own = {key: row for key, row in found.items() if not row["duplicate_of"]}
    assert 4 <= len(own) == sum(orders.begun().values()) <= 8
    for key, row in found.items():
        picture = (output / row["image"]).read_bytes()
        assert hashlib.sha256(picture).hexdigest() == row["sha256"]
        first = found[row["duplicate_of"] or key]
        assert (row["image"], row["source_sha256"]) == (first["image"], first["source_sha256"])
        record = commit.find(Store(str(output)), settings_for(source, output).preset.folder, key, key)
        assert record is not None and record["sha256"] == row["sha256"]
    pictures = {str(path.relative_to(output)) for path in (output / "images").rglob("*.png")}
    assert pictures == {row["image"] for row in own.values()}


def test_shards_of_one_manifest_share_an_index(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    put(source, {f"{n:02d}.jpg": jpeg(n) for n in range(12)} | {"copy.jpg": jpeg(3)})
    parts = [restore(settings_for(source, output, shard=f"{n}/2")).todo.num_rows for n in (1, 2)]
    assert sum(parts) == len(view(output)) == len(raw_rows(output)) == 13 and all(parts)
    assert sum(bool(row["duplicate_of"]) for row in view(output).values()) == 1
    assert plan_for(settings_for(source, output)).todo.num_rows == 0


def test_a_redo_that_is_killed_leaves_what_the_next_run_mends(tmp_path: Path) -> None:
    """Its pictures are in the store, and the index knows only the old ones."""
    source, output = tmp_path / "in", tmp_path / "out"
    put(source, {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    restore(settings_for(source, output))
    parts = set((output / "index").iterdir())
    restore(settings_for(source, output, redo=True), Pretend(shade=40))
    look = settings_for(source, output).preset.folder
    assert replacing.marked(Store(str(output)), look) == [], "the index has the new rows"
    for part in set((output / "index").iterdir()) - parts:  # as if it had been killed before it wrote them
        part.unlink()
    replacing.mark(Store(str(output)), look, ["a.jpg"])
    replacing.mark(Store(str(output)), look, ["b.jpg"])
    record = output / commit.record_path(look, "b.jpg")
    old = next(row for row in raw_rows(output) if row["photo_id"] == "b.jpg")
    record.write_text(record.read_text().replace(view_sha(output, "b.jpg"), old["sha256"]))  # nor this record
    orders = Pretend(tmp_path / "journal")
    plan = restore(settings_for(source, output), orders)
    assert plan.todo.num_rows == 2 and set(orders.begun()) == {"b.jpg"}
    for row in view(output).values():
        assert hashlib.sha256((output / row["image"]).read_bytes()).hexdigest() == row["sha256"]
    assert replacing.marked(Store(str(output)), look) == []


def view_sha(output: Path, photo_id: str) -> str:
    """Of the picture as it lies."""
    return hashlib.sha256((output / view(output)[photo_id]["image"]).read_bytes()).hexdigest()


def test_nothing_of_a_run_goes_on_behind_it(small: RunSettings) -> None:
    """A thread of Ray Data that is left would end the process, without a word, when Ray is shut down."""
    before = set(threading.enumerate())

    class Enough(Exception):
        pass

    def enough(new: list[rows.Row]) -> None:
        raise Enough

    with pytest.raises(Enough):
        flow.run(small, plan_for(small).todo, on_rows=enough, load=Pretend(seconds=0.5))
    flow._wait_for_executions()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if name.startswith("StreamingExecutor")], left
