"""A model in a store: fetched once per node, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import model_cache
from supir_core import models
from supir_core.errors import StorageError, WeightsError
from supir_core.networks.dims import DEMO
from tests.jobs.command import REPOSITORY

FILES = {"sdxl.safetensors": b"s" * 5000, "supir.safetensors": b"u" * 3000}


def packed(folder: Path, **changes: Any) -> str:
    """What a packed model looks like from outside; its URI."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    record = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in FILES.items()}
    config = {"dims": DEMO.to_dict(), "packed": {"files": record | changes}}
    (folder / "model.json").write_text(json.dumps(config), encoding="utf-8")
    return f"file://{folder}"


def test_the_driver_knows_a_model_by_its_record_alone(tmp_path: Path) -> None:
    uri = packed(tmp_path / "store")
    assert model_cache.digest(uri) == models.model_digest(str(tmp_path / "store"))
    assert model_cache.is_remote("s3://models/packed") and not model_cache.is_remote("/models/packed")


@pytest.mark.parametrize(("content", "code"), [(None, "weights-not-found"), (b"short", "weights-changed")])
def test_a_model_that_is_not_whole_is_refused_at_once(tmp_path: Path, content: bytes | None, code: str) -> None:
    uri = packed(tmp_path / "store")
    file = tmp_path / "store" / "supir.safetensors"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        model_cache.digest(uri)
    assert error.value.code == code


def test_what_is_no_packed_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(WeightsError, match="no packed model"):
        model_cache.digest(f"file://{tmp_path}")
    uri = packed(tmp_path / "store", **{"../outside": {"bytes": 1, "sha256": "00"}})
    with pytest.raises(WeightsError) as error:
        model_cache.digest(uri)
    assert error.value.code == "weights-config"


def test_a_fetched_model_is_what_was_packed(tmp_path: Path) -> None:
    uri = packed(tmp_path / "store")
    place = model_cache.fetched(uri, model_cache.digest(uri), tmp_path / "cache")
    assert {name: (place / name).read_bytes() for name in FILES} == FILES
    assert models.model_digest(str(place)) == model_cache.digest(uri) == place.name


def test_a_damaged_copy_is_not_kept(tmp_path: Path) -> None:
    uri = packed(tmp_path / "store")
    digest = model_cache.digest(uri)
    (tmp_path / "store" / "supir.safetensors").write_bytes(b"x" * 3000)  # as long as it was
    with pytest.raises(WeightsError, match="another sha256"):
        model_cache.fetched(uri, digest, tmp_path / "cache")
    assert not (tmp_path / "cache" / digest).exists()
    packed(tmp_path / "store")
    assert model_cache.fetched(uri, digest, tmp_path / "cache").is_dir()


def test_another_model_in_its_place_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="another model"):
        model_cache.fetched(packed(tmp_path / "store"), "0123456789ab", tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    uri = packed(tmp_path / "store")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as error:
        model_cache.fetched(uri, model_cache.digest(uri), tmp_path / "file" / "cache")
    assert "SUPIR_MODEL_CACHE" in error.value.hint


COUNTED = """
import sys
from pathlib import Path
from pipeline import model_cache
from pipeline.storage import Store

class Counted(Store):
    def read_range(self, path, start, end):
        with open(sys.argv[3], "a") as journal:
            journal.write(path + "\\n")
        return super().read_range(path, start, end)

model_cache.Store = Counted
print(model_cache.fetched(sys.argv[1], sys.argv[2], Path(sys.argv[4])))
"""


def test_processes_that_start_at_once_fetch_it_once(tmp_path: Path) -> None:
    uri = packed(tmp_path / "store")
    words = [uri, model_cache.digest(uri), str(tmp_path / "journal"), str(tmp_path / "cache")]
    started = [
        subprocess.Popen([sys.executable, "-c", COUNTED, *words], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    places = {process.communicate()[0] for process in started}
    assert len(places) == 1 and all(process.returncode == 0 for process in started)
    assert sorted((tmp_path / "journal").read_text().split()) == sorted(FILES)


def test_what_a_killed_process_has_left_is_no_hindrance(tmp_path: Path) -> None:
    uri = packed(tmp_path / "store")
    digest = model_cache.digest(uri)
    half = tmp_path / "cache" / f"{digest}.half"
    half.mkdir(parents=True)
    (half / "sdxl.safetensors").write_bytes(b"half")
    assert (model_cache.fetched(uri, digest, tmp_path / "cache") / "sdxl.safetensors").stat().st_size == 5000


def test_on_clusters_pickles_are_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "sdxl.safetensors").write_bytes((100).to_bytes(8, "little") + b"{}")
    models.check_safetensors(str(folder))
    (folder / "SUPIR-v0Q.safetensors").write_bytes(b"PK\x03\x04 a pickle with another name")
    with pytest.raises(WeightsError) as error:
        models.check_safetensors(str(folder))
    assert error.value.code == "weights-pickle"
    models.check_safetensors("demo")
