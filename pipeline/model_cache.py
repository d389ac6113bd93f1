"""Models in an object store: every node fetches one once, checks that it is what was packed, and maps it from its disk.

Only packed models (`supir weights pack`) can lie there: their `model.json` says what each file is, so that the driver
need not read them. Actors that start on a node at the same time wait for the one that fetches; all of them then map the
same files, which are in memory once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.settings import RunSettings
from pipeline.storage import Store
from supir_core import models
from supir_core.errors import StorageError, WeightsError

FOLDER_VARIABLE = "SUPIR_MODEL_CACHE"
CHUNK_BYTES = 64 * 2**20


def is_remote(model: str) -> bool:
    """Whether a model lies in a store rather than in a directory of this machine."""
    return "://" in model


def digest(uri: str) -> str:
    """As `models.model_digest`, from `model.json` alone.

    Raises:
        WeightsError: it is no packed model, or a file of it is missing or of another size.
        StorageError: it cannot be read.
    """
    store, config = _opened(uri)
    for name, size, _ in models.packed_record(config, uri):
        found = store.size(name)
        if found != size:
            missing = found is None
            raise WeightsError(
                f"{store.uri(name)} is missing" if missing else f"{store.uri(name)} has {found} bytes, not {size}",
                hint="copy the packed directory again, all of it",
                code="weights-not-found" if missing else "weights-changed",
            )
    return models.packed_digest(config, uri)


def at_hand(settings: RunSettings) -> RunSettings:
    """The settings with a model that lies on this node's disk; it is fetched if it is not there yet.

    Raises:
        SupirError: it cannot be fetched, or is not what was packed.
    """
    if not is_remote(settings.model):
        return settings
    return replace(settings, model=str(fetched(settings.model, settings.model_digest, cache_folder())))


def cache_folder() -> Path:
    """Where this node keeps models: `$SUPIR_MODEL_CACHE`, else below the home folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "supir" / "models"


def fetched(uri: str, expected: str, folder: Path) -> Path:
    """The directory of a model on this machine's disk.

    Args:
        uri: of a packed model.
        expected: its digest, which names the directory.
        folder: of all models; those that no run needs any more can be deleted at any time between runs.

    Raises:
        WeightsError: a file is not what was packed (`weights-changed`).
        StorageError: the store cannot be read, or the disk not be written.
    """
    place = folder / expected
    with _disk(folder), _alone(folder, expected):
        if not place.is_dir():
            store, config = _opened(uri)
            if models.packed_digest(config, uri) != expected:
                raise WeightsError(
                    f"{uri} is another model than when the run began",
                    hint="start the run again",
                    code="weights-changed",
                )
            half = folder / f"{expected}.half"
            shutil.rmtree(half, ignore_errors=True)  # of a process that was killed
            half.mkdir()
            for name, size, sha256 in models.packed_record(config, uri):
                _fetch(store, name, size, sha256, half / name)
            (half / models.CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
            half.rename(place)
    return place


def _opened(uri: str) -> tuple[Store, Any]:
    store = Store(uri)
    data = store.read_if_any(models.CONFIG_FILE)
    try:
        config = json.loads(data) if data else None
    except ValueError:
        config = None
    if not isinstance(config, dict) or "packed" not in config:
        raise WeightsError(
            f"{uri} holds no packed model",
            hint="supir weights pack writes one; copy the directory there, with its model.json",
            code="weights-not-found",
        )
    return store, config


def _fetch(store: Store, name: str, size: int, sha256: str, file: Path) -> None:
    read = hashlib.sha256()
    with file.open("wb") as out:
        for start in range(0, size, CHUNK_BYTES):
            data = store.read_range(name, start, min(start + CHUNK_BYTES, size))
            read.update(data)
            out.write(data)
        out.flush()
        os.fsync(out.fileno())
    if read.hexdigest() != sha256:
        raise WeightsError(
            f"{store.uri(name)} has another sha256 than when it was packed",
            hint="it is damaged or was exchanged: copy the packed directory again",
            code="weights-changed",
        )


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """What the disk refuses is said with a name and a way out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StorageError(
            f"{folder}: {error.strerror}", hint=f"set {FOLDER_VARIABLE} to a folder with room for the model"
        ) from error


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """One process of this node at a time; a process that dies lets go."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
