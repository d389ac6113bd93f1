"""Every call to a file system or object store. Nothing else imports fsspec."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from pipeline import troubles
from pipeline.conditional import TEMPORARY, local_tag, local_write_if, replacing, s3_write_if
from pipeline.listing import s3_exists, s3_pages, try_again_when_busy
from pipeline.public_addresses import public_client
from supir_core.errors import StorageError

FETCHES_AT_ONCE = 16
LONGEST_NAME_BYTES = 255  # of a file or folder, on all common file systems
LONGEST_KEY_BYTES = 1024  # of an object in S3


class Entry(NamedTuple):
    """One object of a listing."""

    path: str  # relative to the store's root
    size_bytes: int
    version: str  # changes when the content does


class Store:
    """A folder or an object-store prefix. Paths are relative to it, with forward slashes.

    Args:
        root: a local path or a URI such as s3://bucket/prefix.
        public_only: refuse private addresses of http(s), whatever they are called.

    Raises:
        StorageError: the scheme is unknown or its package is missing.
    """

    def __init__(self, root: str, public_only: bool = False):
        options: dict[str, Any] = {"use_listings_cache": False} if root.startswith("s3://") else {}
        if public_only:
            options["get_client"] = public_client
        with _explained(root):
            path = os.path.expanduser(root)  # noqa: PTH111
            if "://" not in path:  # fsspec would take `::` in a name for a chain of URIs
                path = LocalFileSystem._strip_protocol(path)
                self._fs, self._root = LocalFileSystem(), path
            else:
                self._fs, self._root = fsspec.core.url_to_fs(path, **options)
        self._root = self._root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self._s3 = type(self._fs).__name__ == "S3FileSystem"  # by its name: the package takes a second to import
        if self._s3:
            try_again_when_busy()

    def uri(self, path: str = "") -> str:
        """The full address of a path: a plain absolute path for a folder, else a URI."""
        full = self._full(path)
        return full if self._local else str(self._fs.unstrip_protocol(full))

    def exists(self, path: str = "") -> bool:
        """Whether there is an object or a folder.

        Raises:
            StorageError: the store does not say (`denied`, `storage`).
        """
        with _explained(self.uri(path)):
            if self._s3:
                return s3_exists(self._fs, self._full(path))
            return bool(self._fs.exists(self._full(path)))

    def is_file(self, path: str = "") -> bool:
        """Whether the path is one object."""
        with _explained(self.uri(path)):
            return bool(self._fs.isfile(self._full(path)))

    def read(self, path: str = "") -> bytes:
        """The whole object.

        Raises:
            StorageError: it does not exist (`not-found`) or cannot be read.
        """
        in_one_piece = {"max_concurrency": 1} if self._s3 else {}  # s3fs does not try pieces again that were cut off
        with _explained(self.uri(path)):
            return bytes(self._fs.cat_file(self._full(path), **in_one_piece))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """The bytes of an object from start to before end, or to its own end.

        Raises:
            StorageError: it does not exist (`not-found`), ends before start or cannot be read.
        """
        with _explained(self.uri(path)):
            return bytes(self._fs.cat_file(self._full(path), start=start, end=end))

    def check_name(self, path: str) -> None:
        """See that an object may have this path.

        Raises:
            StorageError: it is longer than the store allows (`name-too-long`).
        """
        longest, limit = path, LONGEST_NAME_BYTES
        if self._local:
            longest = max(path.split("/"), key=lambda part: len(part.encode()))
        elif self._s3:
            longest, limit = self._full(path).partition("/")[2], LONGEST_KEY_BYTES
        if len(longest.encode()) > limit:
            raise StorageError(
                f"{longest} has {len(longest.encode())} bytes, {self.uri()} takes {limit}",
                hint=_SHORTER,
                code="name-too-long",
            )

    def size(self, path: str) -> int | None:
        """The bytes of an object, or None where there is none."""
        with _explained(self.uri(path)):
            try:
                found = self._fs.info(self._full(path))
            except FileNotFoundError:
                return None
            return int(found["size"]) if found["type"] == "file" else None

    def read_if_any(self, path: str) -> bytes | None:
        """The whole object, or None where there is none."""
        try:
            return self.read(path)
        except StorageError as error:
            if error.code == "not-found":
                return None
            raise

    def write(self, path: str, data: bytes) -> None:
        """Write an object whole or not at all, replacing what was there."""
        full = self._full(path)
        with _explained(self.uri(path)):
            if not self._local:
                self._fs.pipe_file(full, data)
                return
            with _whole(full) as temporary:
                temporary.write_bytes(data)

    def tag(self, path: str) -> str | None:
        """What changes whenever the object is written, for `write_if`; None where there is no object."""
        full = self._full(path)
        with _explained(self.uri(path)):
            if self._local:
                return local_tag(Path(full))
            try:
                info = self._fs.info(full)
            except FileNotFoundError:
                return None
            return _version(info) if info["type"] == "file" else None

    def write_if(self, path: str, data: bytes, tag: str | None) -> bool:
        """Write an object whole if its tag is still this one, or if there is none (None); whether it was written.

        Of several writers at once one succeeds, on folders and on S3 stores that know conditions. After False, what
        lies there may still be ours: a store that has written but whose answer was lost refuses the second try.
        """
        full = self._full(path)
        with _explained(self.uri(path)):
            if self._local:
                return local_write_if(Path(full), data, tag)
            written = s3_write_if(self._fs, full, data, tag) if self._s3 else None
        if written is not None:
            return written
        if self.tag(path) != tag:
            return False
        self.write(path, data)
        return True

    def remove(self, path: str) -> None:
        """Remove an object, if there is one."""
        with _explained(self.uri(path)), suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    def entries(self, path: str = "") -> Iterator[Entry]:
        """Every object below a path, sorted; none if there is no such path."""
        top = self._full(path)
        with _explained(self.uri(path)):
            found = self._fs.find(top, detail=True) if self._fs.exists(top) else {}
        for full in sorted(found):
            entry = self._entry(found[full])
            if entry is not None:
                yield entry

    def upload(self, file: str, path: str) -> None:
        """Write an object from a local file, whole or not at all, without having it in memory."""
        full = self._full(path)
        with _explained(self.uri(path)):
            if not self._local:
                self._fs.put_file(file, full)
                return
            with _whole(full) as temporary:
                shutil.copyfile(file, temporary)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return self._local

    def copy_to(self, path: str, other: Store, target: str) -> None:
        """Copy an object, over whatever lies there; within S3 the store does it, and nothing is fetched.

        Raises:
            StorageError: it does not exist (`not-found`), or cannot be read or written.
        """
        if self._s3 and other._s3:
            with _explained(self.uri(path)):
                self._fs.cp_file(self._full(path), other._full(target))
        elif self._local:
            if not self.is_file(path):
                raise StorageError(f"{self.uri(path)} does not exist", code="not-found")
            other.upload(self._full(path), target)
        else:
            other.write(target, self.read(path))

    def link_to(self, path: str, other: Store, target: str) -> None:
        """Make a symbolic link to an object of a local folder in another one, over whatever lies there.

        Raises:
            StorageError: the object does not exist (`not-found`), or the link cannot be made.
        """
        if not self.is_file(path):
            raise StorageError(f"{self.uri(path)} does not exist", code="not-found")
        with _explained(other.uri(target)), _whole(other._full(target)) as temporary:
            temporary.symlink_to(self._full(path))

    def pages(self, path: str = "") -> Iterator[list[Entry]]:
        """Every object below a path, in no order, some at a time: stores can hold more than memory does."""
        top = self._full(path)
        with _explained(self.uri(path)):
            if self._s3:
                listed = s3_pages(self._fs, top)
            else:
                listed = (list(files.values()) for _, _, files in self._fs.walk(top, detail=True))
            for infos in listed:
                yield [entry for info in infos if (entry := self._entry(info)) is not None]

    def _entry(self, info: dict[str, Any]) -> Entry | None:
        """What a listing says of an object, if it is one, and a whole one."""
        full = info["name"]
        name = full[len(self._root) + 1 :]
        if info.get("islink") and not self._fs.isdir(full):
            # One that leads nowhere is listed, too: whoever reads it learns that nothing is there.
            info = info | {"size": 0} | (self._fs.info(full) if self._fs.exists(full) else {}) | {"type": "file"}
        if info["type"] != "file" or PurePosixPath(name).name.startswith(TEMPORARY):
            return None
        return Entry(name, int(info["size"] or 0), _version(info))

    def open(self, path: str) -> Any:
        """An object as a binary file for reading, closed by the caller.

        Raises:
            StorageError: it does not exist (`not-found`) or cannot be read.
        """
        with _explained(self.uri(path)):
            return self._fs.open(self._full(path), "rb")

    @contextmanager
    def at_hand(self, paths: list[str]) -> Iterator[list[str]]:
        """Objects as local files with harmless names: links to them, or copies from an object store.

        Raises:
            StorageError: one of them does not exist (`not-found`) or cannot be read.
        """
        with TemporaryDirectory(prefix="supir-") as folder, ThreadPoolExecutor(FETCHES_AT_ONCE) as workers:
            harmless = [re.sub(r"[^\w.-]", "_", PurePosixPath(path).name) for path in paths]
            files = [f"{folder}/{number}-{name}" for number, name in enumerate(harmless)]
            list(workers.map(self._bring, paths, files))
            yield files

    def _bring(self, path: str, file: str) -> None:
        with _explained(self.uri(path)):
            if self._local:
                os.symlink(self._full(path), file)  # noqa: PTH211
            else:
                self._fs.get_file(self._full(path), file)

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


@contextmanager
def _whole(full: str) -> Iterator[Path]:
    """A file to be written beside another, which it then replaces in one step."""
    file = Path(full)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        yield temporary
        temporary.replace(file)


def split_uri(uri: str, public_only: bool = False) -> tuple[Store, str]:
    """The store that holds one object, and the object's path in it."""
    parent, slash, name = uri.rstrip("/").rpartition("/")
    return Store(parent or slash or ".", public_only), name


def _version(info: dict[str, Any]) -> str:
    """The ETag of an object, or size and time of a file."""
    tag = info.get("ETag") or info.get("etag")
    return str(tag).strip('"') if tag else f"{info['size']}-{info.get('mtime', info.get('created', ''))}"


_CREDENTIALS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
_SHORTER = "give the photo a shorter name, or choose another output"
_LATER = "the store may be down or full: run again later; or AWS_ENDPOINT_URL names no store"
_PRIVATE = "--allow-uri PREFIX allows what begins so, private or not"
_CLIENTS = ("botocore", "aiobotocore", "aiohttp")  # whose errors s3fs passes on
_EXPLANATIONS: list[tuple[type[Exception], str, str, str]] = [
    (FileNotFoundError, "not-found", "{uri} does not exist", "check the path; for S3 the bucket must exist"),
    (PermissionError, "denied", "{uri} may not be read or written", "check the credentials and their rights"),
    (IsADirectoryError, "storage", "{uri} is a folder, not a file", ""),
    (NotADirectoryError, "storage", "{uri}: a part of this path is a file", ""),
    (ImportError, "storage", "{uri} needs another package: {error}", "install the fsspec package for this scheme"),
    (ValueError, "storage", "{uri} is not a path or URI: {error}", "use a path, s3://bucket/prefix or a known scheme"),
]


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn what a file system raises into a StorageError that names the object."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
            raise StorageError(f"{uri}: {error}", hint=_CREDENTIALS, code="denied") from error
        for kind, code, message, hint in _EXPLANATIONS:
            if isinstance(error, kind):
                if code != "not-found":
                    troubles.note(code)
                raise StorageError(message.format(uri=uri, error=error), hint=hint, code=code) from error
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise StorageError(f"{uri}: the name is too long", hint=_SHORTER, code="name-too-long") from error
        if isinstance(private := getattr(error, "os_error", None), PermissionError):
            raise StorageError(f"{uri}: {private}", hint=_PRIVATE, code="uri-refused") from error
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _CLIENTS:
            troubles.note("storage")
            raise StorageError(f"{uri}: {error}", hint=_LATER) from error
        raise
