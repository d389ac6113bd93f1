"""An object of a store as a file of which only what is read is fetched."""

from __future__ import annotations

import io
import os
from typing import Any

from pipeline.storage import Store

BLOCK_BYTES = 2**16


def open_ranges(store: Store, path: str, size_bytes: int) -> io.BufferedReader:
    """A seekable file; reading it fetches ranges of at least 64 KB, in as many requests as there are jumps.

    Args:
        store: that holds the object.
        path: of the object.
        size_bytes: of the object.
    """
    return io.BufferedReader(_Ranges(store, path, size_bytes), BLOCK_BYTES)


class _Ranges(io.RawIOBase):
    def __init__(self, store: Store, path: str, size_bytes: int):
        self._store, self._path, self._size = store, path, size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._fetch(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._fetch(self._size)

    def _fetch(self, count: int) -> bytes:
        end = min(self._at + count, self._size)
        data = self._store.read_range(self._path, self._at, end) if end > self._at else b""
        self._at += len(data)
        return data
