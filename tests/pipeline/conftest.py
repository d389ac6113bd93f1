"""What several files of tests need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pipeline.caption_server import KEY, Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CAPTION_KEY", KEY)
    made = Server()
    yield made
    made.close()
