"""The time limit of photos, with clocks that run for real."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import ExitStack

from pipeline.watch import Clock, Watch, together

LIMIT_S = 0.3
PATIENCE_S = 60


def watched() -> tuple[Watch, queue.Queue[str | None]]:
    late: queue.Queue[str | None] = queue.Queue()
    return Watch(LIMIT_S, late.put), late


def test_who_is_late_is_named() -> None:
    watch, late = watched()
    with watch.over("slow"):
        assert late.get(timeout=PATIENCE_S) == "slow"


def test_nobody_is_late_who_has_ended_or_waits() -> None:
    watch, late = watched()
    with watch.over("quick"):
        pass
    with watch.over("waits") as clock, clock.waiting():
        time.sleep(4 * LIMIT_S)
        assert late.empty()
        assert clock.seconds() < LIMIT_S < clock.age()


def test_in_company_it_is_not_known_who_is_late() -> None:
    watch, late = watched()
    with ExitStack() as stack:
        clocks = [stack.enter_context(watch.over(name)) for name in "ab"]
        waiting = [stack.enter_context(clock.waiting()) for clock in clocks]
        assert len(waiting) == 2
        with together(clocks):
            assert late.get(timeout=PATIENCE_S) is None


def test_alone_in_the_networks_it_is() -> None:
    watch, late = watched()
    with watch.over("a") as clock, clock.waiting(), together([clock]):
        assert late.get(timeout=PATIENCE_S) == "a"


def test_who_is_late_by_itself_is_named_before_company_that_is() -> None:
    watch, late = watched()
    with ExitStack() as stack:
        clocks = [stack.enter_context(watch.over(name)) for name in "ab"]
        for clock in clocks:
            stack.enter_context(clock.waiting())
        stack.enter_context(together(clocks))
        stack.enter_context(watch.over("fetching"))
        seen = {late.get(timeout=PATIENCE_S) for _ in range(20)}
        assert "fetching" in seen


def test_the_clock_runs_in_the_networks_and_after_them() -> None:
    """Whatever the order in which the two threads of a photo take notice of its end."""
    clock = Clock("a")
    entered, left = threading.Event(), threading.Event()

    def networks() -> None:
        with together([clock]):
            time.sleep(0.05)
        left.set()

    with clock.waiting():
        time.sleep(0.2)
        thread = threading.Thread(target=networks)
        thread.start()
        entered.set()
        left.wait(timeout=PATIENCE_S)
    before = clock.seconds()
    assert 0.05 <= before <= clock.age() - 0.2
    time.sleep(0.01)
    assert clock.seconds() > before
