"""What the store does stays right when the network and the store do not, one fault at a time."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import commit, rows
from pipeline.rows import Row
from pipeline.storage import Store
from supir_core.errors import StorageError
from tests.s3.gateway import Gateway
from tests.s3.proxy import Faults, Proxy, proxy

LOOK = "demo-0123"
SHARES = Faults(slow_down=0.3, reset=0.3, lost=0.3, cut=0.1, stall=0.1)
"""Few enough of each for the clients' patience."""
PHOTOS = 12


@pytest.fixture
def between(s3: Gateway, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy without faults, which this process's stores go through."""
    import s3fs

    with proxy(s3.endpoint, seed=1) as up:
        monkeypatch.setenv("AWS_ENDPOINT_URL", up.endpoint)
        s3fs.S3FileSystem.clear_instance_cache()
        yield up
        s3fs.S3FileSystem.clear_instance_cache()


def everything(store: Store, name: str) -> None:
    """Each operation of a store, on objects of this name."""
    content = name.encode() * 500
    assert store.read_if_any(name) is None
    assert store.tag(name) is None
    store.write(name, content)
    assert store.read(name) == content
    assert store.exists(name) and store.is_file(name)
    assert [entry.size_bytes for entry in store.entries() if entry.path == name] == [len(content)]
    assert name in [entry.path for page in store.pages() for entry in page]
    with store.open(name) as file:
        assert file.read() == content
    tag = store.tag(name)
    store.write_if(name, b"new", tag)  # its answer may be lost: what lies there decides
    assert store.read(name) == b"new" and store.tag(name) != tag
    store.remove(name)
    assert store.read_if_any(name) is None


def finished(name: str) -> Row:
    return {
        "photo_id": name,
        "status": rows.RESTORED,
        "format": "png",
        "warnings": [],
        "finished_at": datetime.datetime.now(datetime.UTC),
    }


def committed(store: Store, name: str) -> None:
    """A photo's picture and record, once and true."""
    picture = hashlib.sha256(name.encode()).digest() * 100
    row = commit.commit(store, LOOK, name, finished(name), picture, wait_s=0)
    assert row["photo_id"] == name
    record = commit.find(store, LOOK, name, name)
    assert record is not None and record["sha256"] == hashlib.sha256(picture).hexdigest()
    assert store.read(record["image"]) == picture


def test_without_faults_it_is_as_if_it_was_not_there(between: Proxy, bucket: str) -> None:
    store = Store(f"s3://{bucket}/out")
    everything(store, "odd/IMG[1] 100%+é.jpg")
    large = bytes(range(256)) * 2**18  # 64 MiB
    store.write("large", large)
    assert store.read("large") == large
    assert between.counts["requests"] > 10 and sum(between.counts.values()) == between.counts["requests"]


@pytest.mark.parametrize("fault", Faults._fields)
def test_every_operation_ends_rightly(between: Proxy, bucket: str, fault: str) -> None:
    store = Store(f"s3://{bucket}/out")
    between.faults = Faults(**{fault: getattr(SHARES, fault)})
    with ThreadPoolExecutor(PHOTOS) as pool:
        list(pool.map(lambda n: everything(store, f"{n}.jpg"), range(PHOTOS)))
        list(pool.map(lambda n: committed(store, f"{n}.jpg"), range(PHOTOS)))
    assert between.counts[fault]


def test_a_large_object_that_is_cut_off_is_read_again(between: Proxy, bucket: str) -> None:
    store, large = Store(f"s3://{bucket}/out"), bytes(range(256)) * 2**18
    store.write("large", large)
    between.faults = Faults(cut=0.3)
    assert all(store.read("large") == large for _ in range(6))
    assert between.counts["cut"]


def test_what_another_has_written_is_told_apart_from_a_lost_answer(between: Proxy, bucket: str) -> None:
    """Of two writers at once one commits, and both see the same record."""
    store = Store(f"s3://{bucket}/out")
    between.faults = Faults(lost=0.2)

    def write(name: str, writer: int) -> Row:
        row = finished(name) | {"run": f"run {writer}"}
        return commit.commit(store, LOOK, name, row, b"%d" % writer * 100, lambda found: True)

    for name in "abcdef":
        with ThreadPoolExecutor(2) as pool:
            told = list(pool.map(lambda writer, name=name: write(name, writer), range(2)))
        record = commit.find(store, LOOK, name, name)
        assert record is not None and {row["run"] for row in told} == {record["run"]}
        assert hashlib.sha256(store.read(record["image"])).hexdigest() == record["sha256"]


def test_a_store_that_never_answers_is_a_reason_and_no_absence(between: Proxy, bucket: str) -> None:
    store = Store(f"s3://{bucket}/out")
    store.write("there", b"1" * 100)
    between.faults = Faults(cut=1.0)
    with pytest.raises(StorageError) as raised:
        store.read("there")
    assert raised.value.code == "storage"
