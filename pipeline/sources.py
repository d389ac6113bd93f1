"""Where photos and their caption files may come from: lists name URIs, and lists come from anywhere.

What the operator has named himself (the folder or prefix after `--input`) is allowed. A URI of a list is opened if it
begins with one of the prefixes after `--allow-uri`; where none is given, by its scheme: object stores always, http(s)
at public addresses, local files on the operator's own machine, not on a cluster's.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath

from pipeline.manifest import LISTS
from pipeline.settings import RunSettings
from pipeline.storage import Store, split_uri
from supir_core.errors import StorageError

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "http", "https", "file")


def opened(uri: str, settings: RunSettings) -> tuple[Store, str]:
    """The store that holds a photo or a caption file, and its path there.

    Raises:
        StorageError: it may not be opened (`uri-refused`), or is no URI.
    """
    if named(uri, settings):
        return split_uri(uri)
    scheme = _scheme(uri)
    if settings.allow_uris or scheme not in SCHEMES or ("://" in uri and "::" in uri):
        raise _refused(uri, "it begins with none of the allowed prefixes" if settings.allow_uris else "of its scheme")
    if scheme == "file" and settings.address is not None:
        raise _refused(uri, "a cluster opens no local files that a list names")
    return split_uri(uri, public_only=scheme in ("http", "https"))


def named(uri: str, settings: RunSettings) -> bool:
    """Whether the operator has named the URI or a prefix of it."""
    listed = PurePosixPath(settings.input).suffix.lower() not in LISTS and _begins(uri, settings.input)
    return listed or any(_below(uri, prefix) for prefix in settings.allow_uris)


def _below(uri: str, prefix: str) -> bool:
    """Whether a URI that anybody may have written leads below a prefix."""
    if _scheme(uri) != _scheme(prefix):
        return False
    if _scheme(uri) == "file":  # links and .. lead elsewhere
        return _begins(os.path.realpath(_local(uri)), os.path.realpath(_local(prefix)))
    return _begins(uri, prefix) and "::" not in uri and ".." not in uri.split("/")


def _begins(uri: str, prefix: str) -> bool:
    prefix = prefix.rstrip("/")
    return uri == prefix or uri.startswith(prefix + "/")


def _scheme(uri: str) -> str:
    scheme, separator, _ = uri.partition("://")
    return scheme.lower().replace("local", "file") if separator else "file"


def _local(uri: str) -> str:
    return os.path.expanduser(uri.partition("://")[2] or uri)  # noqa: PTH111


def _refused(uri: str, why: str) -> StorageError:
    return StorageError(
        f"{uri} is not opened: {why}", hint="--allow-uri PREFIX allows what begins so", code="uri-refused"
    )
