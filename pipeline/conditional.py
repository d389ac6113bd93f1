"""Writes with a condition: only where nothing lies yet, or only over what was seen there."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".part-"  # marks a file that is being written; a listing leaves them out

_REFUSED = (409, 412)  # somebody is writing at this moment; something else lies there
_UNSUPPORTED = (405, 501)


def local_tag(file: Path) -> str | None:
    """What changes whenever a file is written, which makes a new one each time; None where there is none."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"


def local_write_if(file: Path, data: bytes, tag: str | None, link: Callable[[Path, Path], None] = os.link) -> bool:
    """Write a file whole if its tag is still this one, or if there is none (None).

    Args:
        file: its folder is made where there is none.
        data: all of it.
        tag: what `local_tag` said.
        link: gives a file another name, if nothing has that name yet.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(data)
        if tag is None:
            with suppress(OSError):
                link(temporary, file)  # says itself whether there was one
                return True
        with _locked(file.parent):
            if local_tag(file) != tag:
                return False
            temporary.replace(file)
            return True


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary file beside another, for its content; what is not moved away is removed."""
    temporary = file.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the writers of a folder, if its file system has locks; a lock goes with the process that holds it."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def s3_write_if(fs: Any, full: str, data: bytes, tag: str | None) -> bool | None:
    """The same on S3, where tags are ETags; None where the store does not know conditions."""
    condition = {"mode": "create"} if tag is None else {"IfMatch": tag}  # bare: Ceph does not know a quoted one
    try:
        fs.pipe_file(full, data, chunksize=max(len(data), 2**20), **condition)  # in one piece: Ceph's parts know none
    except OSError as error:
        status = _status(error)
        if status in _REFUSED or isinstance(error, FileExistsError) or (status == 404 and tag is not None):
            return False
        if status in _UNSUPPORTED:
            return None
        raise
    return True


def _status(error: OSError) -> int | None:
    """The HTTP status behind what s3fs raises."""
    answer = getattr(error.__cause__, "response", None) or {}
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None
