"""One real S3 store for all tests that need one, and buckets of their own for each. A plugin of tests/conftest.py."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.s3.gateway import Gateway, gateway, missing

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The store; this process and its children are its clients, as admin."""
    if missing():
        pytest.skip(f"no S3 store: {', '.join(missing())} not installed (make test-s3 installs them)")
    with gateway(tmp_path_factory.mktemp("s3") / "store") as store:
        before = dict(os.environ)
        os.environ.update(store.environment())
        try:
            yield store
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture
def fs(s3: Gateway) -> Any:
    """The store as s3fs sees it."""
    import s3fs

    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


@pytest.fixture
def bucket(fs: Any) -> str:
    """A new bucket."""
    name = f"bucket-{next(_numbers)}"
    fs.mkdir(name)
    return name
