"""Writes with a condition on a real S3 store: of many writers at once one succeeds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.storage import Store
from supir_core.errors import StorageError


@pytest.fixture
def store(fs: Any, bucket: str) -> Store:
    return Store(f"s3://{bucket}/out")


def test_only_where_there_is_none(store: Store) -> None:
    assert store.tag("a b/[x].json") is None
    assert store.write_if("a b/[x].json", b"one", None)
    assert not store.write_if("a b/[x].json", b"two", None)
    assert store.read("a b/[x].json") == b"one"


def test_only_over_what_was_seen(store: Store) -> None:
    assert not store.write_if("a", b"none", "0" * 32), "there is nothing of this tag"
    store.write("a", b"one")
    tag = store.tag("a")
    assert store.write_if("a", b"two", tag)
    assert not store.write_if("a", b"three", tag)
    assert store.read("a") == b"two" and store.tag("a") != tag


def test_of_many_writers_one_succeeds(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        for turn in range(5):
            path = f"race {turn}"
            won = list(pool.map(lambda n, path=path: store.write_if(path, b"%d" % n, None), range(16)))
            assert won.count(True) == 1
            assert store.read(path) == b"%d" % won.index(True)
            tag = store.tag(path)
            won = list(pool.map(lambda n, path=path, tag=tag: store.write_if(path, b"%d!" % n, tag), range(16)))
            assert won.count(True) == 1
            assert store.read(path) == b"%d!" % won.index(True)


def test_a_picture_of_more_than_a_hundred_megabytes_has_conditions_too(store: Store) -> None:
    large = bytes(101 * 2**20)
    assert store.write_if("large", large, None)
    assert not store.write_if("large", large, None)
    assert store.write_if("large", large[1:], store.tag("large"))


def test_what_is_removed_is_gone(store: Store) -> None:
    store.write("a", b"")
    store.remove("a")
    store.remove("a")
    assert store.tag("a") is None


def test_a_bucket_that_is_not_there_is_no_refusal(fs: Any) -> None:
    with pytest.raises(StorageError) as raised:
        Store("s3://no-such-bucket").write_if("a", b"", None)
    assert raised.value.code == "not-found"
