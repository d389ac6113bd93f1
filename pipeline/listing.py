"""What s3fs lacks: a prefix of a bucket page by page, its folders at the same time; patience with busy stores."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline import troubles

LISTERS = 16  # folders that are listed at once
PAGES_WAITING = 64  # of up to a thousand objects each

BUSY = (429, 500, 502, 503, 504)

Page = list[dict[str, Any]]


def try_again_when_busy() -> None:
    """Have s3fs try again what a busy store has refused; by itself it looks for words, which answers to HEAD lack."""
    import s3fs  # noqa: PLC0415  # takes a second

    s3fs.core.set_custom_error_handler(_is_busy)


def _is_busy(error: Exception) -> bool:
    answer = getattr(error, "response", None) or {}
    busy = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in BUSY
    if busy:
        troubles.note(troubles.RETRIED)
    return busy


def s3_pages(fs: Any, root: str) -> Iterator[Page]:
    """Every object below a root, in no order, as fsspec describes them.

    Args:
        fs: s3fs's file system.
        root: bucket and prefix.
    """
    bucket, _, prefix = root.partition("/")
    top = f"{prefix}/" if prefix else ""
    pages: queue.Queue[Page | BaseException | None] = queue.Queue(PAGES_WAITING)
    stopped = threading.Event()

    def put(page: Page | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                pages.put(page, timeout=1)
                return True
            except queue.Full:
                continue
        return False

    def read(folder: str) -> None:
        for answer in _answers(fs, bucket, folder, ""):
            if not put(_page(bucket, answer)):
                return

    def read_all() -> None:
        try:
            with ThreadPoolExecutor(LISTERS) as listers:
                below = []
                for answer in _answers(fs, bucket, top, "/"):
                    put(_page(bucket, answer))
                    below += [listers.submit(read, f["Prefix"]) for f in answer.get("CommonPrefixes", [])]
                for folder in below:
                    folder.result()
            put(None)
        except BaseException as error:  # handed to whoever reads the pages
            put(error)

    threading.Thread(target=read_all, name="listing", daemon=True).start()
    try:
        while (page := pages.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            yield page
    finally:
        stopped.set()


def s3_exists(fs: Any, full: str) -> bool:
    """Whether there is a bucket, an object or anything below a prefix; s3fs itself takes a refusal for a no."""
    bucket, _, key = full.partition("/")
    below = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{key}/" if key else "", MaxKeys=1)
    return not key or bool(below.get("Contents")) or bool(fs.isfile(full))


def _answers(fs: Any, bucket: str, prefix: str, delimiter: str) -> Iterator[dict[str, Any]]:
    more: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter=delimiter, **more)
        yield answer
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def _page(bucket: str, answer: dict[str, Any]) -> Page:
    """The objects of an answer; keys that end in a slash are marks of folders."""
    return [
        {"name": f"{bucket}/{found['Key']}", "type": "file", "size": found["Size"], "ETag": found["ETag"]}
        for found in answer.get("Contents", [])
        if not found["Key"].endswith("/")
    ]
