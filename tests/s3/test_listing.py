"""Listing a real S3 store: every object once, whatever its key, page by page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.manifest import read_manifest
from pipeline.storage import Store
from supir_core.errors import StorageError

ODD = [
    "scans//a.jpg", "scans/a.jpg", "/lead.jpg", "scans/../b.jpg", "scans/./c.jpg", "new\nline.jpg", "tab\t.jpg",
    "emoji-\N{CAMERA}.jpg", "a*b?.jpg", "IMG[1].jpg", "per%20cent.jpg", "plus+and space.jpg", "quote'\".jpg",
    "x" * 1000 + ".jpg", "é.jpg", "e\u0301.jpg", "deep/" * 20 + "d.jpg",
]  # fmt: skip


def put(fs: Any, bucket: str, keys: list[str]) -> None:
    def one(key: str) -> None:
        fs.call_s3("put_object", Bucket=bucket, Key=key, Body=key.encode())

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(one, keys))


def test_odd_keys_are_photos_with_places_of_their_own(fs: Any, bucket: str) -> None:
    put(fs, bucket, [*ODD, "folder/", "notes.md"])
    manifest = read_manifest(f"s3://{bucket}")
    photos = manifest.photos.read().to_pylist()
    assert sorted(photo["photo_id"] for photo in photos) == sorted(ODD)
    assert len({photo["path"] for photo in photos}) == len(ODD)
    assert manifest.ignored == {".md": 1}
    for photo in photos:
        parts = photo["path"].split("/")
        assert not {"", ".", ".."} & set(parts)
        store = Store(f"s3://{bucket}")
        assert store.read(photo["photo_id"]) == photo["photo_id"].encode()


def test_thousands_of_objects_in_many_folders_are_listed_once_each(fs: Any, bucket: str) -> None:
    keys = [f"in/{i % 7}/{i % 3}/{i:05d}.jpg" for i in range(2000)] + [f"in/{i:05d}.txt" for i in range(1200)]
    put(fs, bucket, [*keys, "in-between/neighbour.jpg"])
    pages = list(Store(f"s3://{bucket}/in").pages())
    assert max(map(len, pages)) <= 1000
    found = [entry.path for page in pages for entry in page]
    assert sorted(f"in/{path}" for path in found) == sorted(keys)


def test_captions_lie_beside_photos(fs: Any, bucket: str) -> None:
    put(fs, bucket, ["p/a.jpg", "p/a.txt", "p/b.JPG", "p/b.JPG.txt", "p/c.jpg", "p/other.txt"])
    manifest = read_manifest(f"s3://{bucket}/p")
    sidecars = {photo["photo_id"]: photo["sidecar"] for photo in manifest.photos.read().to_pylist()}
    root = f"s3://{bucket}/p"
    assert sidecars == {"a.jpg": f"{root}/a.txt", "b.JPG": f"{root}/b.JPG.txt", "c.jpg": ""}
    assert manifest.ignored == {".txt": 1}


def test_a_bucket_that_is_not_there_is_a_clear_error(fs: Any) -> None:
    with pytest.raises(StorageError) as raised:
        list(Store("s3://no-such-bucket").pages())
    assert raised.value.code == "not-found"
