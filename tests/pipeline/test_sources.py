"""What lists may name, on a machine of one's own and on a cluster."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.public_addresses import public_socket
from pipeline.sources import opened
from supir_core.errors import StorageError
from tests.pipeline.photographs import jpeg, put
from tests.pipeline.runs import restore, settings_for, view


def refused(uri: str, **settings: Any) -> bool:
    """By a run over a list."""
    try:
        opened(uri, settings_for(settings.pop("source", "s3://lists/list.csv"), "s3://out/x", **settings))
    except StorageError as error:
        assert error.code == "uri-refused" and "--allow-uri" in error.hint
        return True
    return False


@pytest.mark.parametrize("uri", ["/etc/passwd", "file:///etc/passwd", "local:///etc/passwd", "~/a.jpg", "a.jpg"])
def test_local_files_on_a_cluster_only_when_asked(uri: str) -> None:
    assert not refused(uri)
    assert refused(uri, address="auto")


@pytest.mark.parametrize(
    "uri",
    ["memory://a.jpg", "ssh://host/a.jpg", "github://a/b.jpg", "zip://a.jpg::s3://b/c.zip", "simplecache::s3://b/c.jpg",
     "filecache::file:///etc/passwd"],
)  # fmt: skip
def test_other_schemes_and_chains_of_them_are_refused(uri: str) -> None:
    assert refused(uri) or uri.startswith(("simplecache::", "filecache::"))
    assert refused(uri, address="auto")
    assert refused(uri, allow_uris=("s3://b",))


def test_prefixes_limit_what_is_opened(tmp_path: Path) -> None:
    only: dict[str, Any] = {"address": "auto", "allow_uris": ("s3://archive/scans", str(tmp_path / "photos"))}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "out").symlink_to("/etc")
    assert not refused("s3://archive/scans/a.jpg", **only)
    assert not refused(f"{tmp_path}/photos/a.jpg", **only)
    assert not refused(f"file://{tmp_path}/photos/a.jpg", **only)
    for uri in (
        "s3://archive/scans2/a.jpg", "s3://archive/scans/../private/a.jpg", "s3://other/a.jpg",
        f"{tmp_path}/photos/../secret.jpg", f"{tmp_path}/photos/out/passwd", f"{tmp_path}/photos2/a.jpg",
        "http://archive/scans/a.jpg",
    ):  # fmt: skip
        assert refused(uri, **only), uri


def test_what_the_operator_names_is_opened(tmp_path: Path) -> None:
    assert not refused(f"{tmp_path}/a.jpg", address="auto", source=str(tmp_path))
    assert refused(f"{tmp_path}/a.jpg", address="auto", source=f"{tmp_path}/list.csv")


def address(host: str) -> Any:
    return socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)[0]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"]
)
def test_private_addresses_get_no_socket(host: str) -> None:
    with pytest.raises(PermissionError, match="not a public address"):
        public_socket(address(host))


def test_public_addresses_get_one() -> None:
    public_socket(address("1.1.1.1")).close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Photos on the loopback."""
    put(tmp_path / "served", {"a.jpg": jpeg(1)})

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any):
            super().__init__(*args, directory=str(tmp_path / "served"))

        def log_message(self, *args: Any) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://localhost:{found.server_port}"
    found.shutdown()
    found.server_close()


def test_a_private_server_is_asked_only_when_it_is_named(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    store, name = opened(f"{server}/a.jpg", settings_for(tmp_path / "list.csv", tmp_path / "out"))
    with pytest.raises(StorageError, match="not a public address") as error:
        store.read(name)
    assert error.value.code == "uri-refused"
    asked = settings_for(tmp_path / "list.csv", tmp_path / "out", allow_uris=(server,))
    store, name = opened(f"{server}/a.jpg", asked)
    assert store.read(name) == jpeg(1)


def test_a_refused_photo_is_a_row(cluster: None, tmp_path: Path) -> None:
    put(tmp_path / "in", {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    (tmp_path / "list.csv").write_text("uri\nin/a.jpg\nmemory://b.jpg\n")
    restore(settings_for(tmp_path / "list.csv", tmp_path / "out"))
    found = view(tmp_path / "out")
    assert found["in/a.jpg"]["status"] == "restored" and found["memory://b.jpg"]["error_code"] == "uri-refused"
