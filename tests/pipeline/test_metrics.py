"""Gauges, which Ray forgets. What nodes export is compared with the table of metrics in tests/cluster."""

from __future__ import annotations

import time

import pytest

from pipeline import metrics


@pytest.mark.usefixtures("cluster")
def test_what_is_left_is_said_again_while_a_run_goes_on_and_once_more_at_its_end() -> None:
    asked: list[float] = []

    def left() -> int:
        asked.append(time.monotonic())
        return 3

    with metrics.run_goes_on("run-1", 5, left, every_s=0.01):
        end = time.monotonic() + 30
        while len(asked) < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
    time.sleep(0.1)
    after = len(asked)
    time.sleep(0.2)
    assert len(asked) == after >= 5
