"""What all tests share: one local Ray with two pretended GPUs, and a server of captions."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray

from tests.pipeline.caption_server import KEY, Server

pytest_plugins = ["tests.s3.fixtures"]

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # no token file in the home folder
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "NO_COLOR": "1",
    "COLUMNS": "200",
}


@pytest.fixture(scope="session", autouse=True)
def quiet_environment() -> Iterator[None]:
    """For this process and the ones it starts."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def cluster(quiet_environment: None) -> Iterator[None]:
    """Real Ray on this machine; the GPUs are numbers to its scheduler. `flow.run` uses it because it is there."""
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of captions on the loopback."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CAPTION_KEY", KEY)
    made = Server()
    yield made
    made.close()
