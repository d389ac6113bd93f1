"""Counting attempts, and the gate that keeps a suspect away from its neighbours."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.attempts import Attempts, Gate


def test_workers_that_died_with_a_photo_are_counted() -> None:
    attempts = Attempts()
    for _ in range(2):
        attempts.begin("killer")
        attempts.risk("killer")
    attempts.begin("fetching")  # when its worker died
    attempts.begin("innocent")
    attempts.risk("innocent")
    attempts.survive("innocent")
    found = [attempts.begin(photo) for photo in ("killer", "fetching", "innocent", "new")]
    assert found == [(2, False), (0, False), (0, False), (0, False)]


def test_who_has_taken_too_long_is_known() -> None:
    attempts = Attempts()
    attempts.begin("slow")
    attempts.time_out("slow")
    assert attempts.begin("slow") == (0, True)


def test_a_run_that_is_ended_waits_for_what_was_begun_and_for_its_rows() -> None:
    attempts = Attempts()
    for photo in ("working", "ended", "came", "killed"):
        attempts.begin(photo)
    for photo in ("ended", "came"):
        attempts.end(photo)
    attempts.came(["came"])
    assert attempts.unfinished() == (2, 1)
    attempts.drain()
    assert attempts.begin("killed") is attempts.begin("new") is None
    assert attempts.unfinished() == (1, 1)
    attempts.came(["working"])  # its worker died after it had committed: the next one found the record
    assert attempts.unfinished() == (0, 1)


class House:
    """Who is inside, and who has ever met whom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: list[bool] = []  # True: a suspect
        self.together = 0
        self.trespasses = 0
        self.visits = 0

    def visit(self, suspect: bool, stay_s: float) -> None:
        with self._lock:
            self._inside.append(suspect)
            self.together = max(self.together, len(self._inside))
            self.trespasses += any(self._inside) and len(self._inside) > 1
        time.sleep(stay_s)
        with self._lock:
            self._inside.remove(suspect)
            self.visits += 1


def go_through(gate: Gate, house: House, suspects: list[bool], stay_s: float = 0.001) -> None:
    """All at once; everybody must get through within seconds."""

    def guest(suspect: bool) -> None:
        with gate.alone() if suspect else gate.ordinary():
            house.visit(suspect, stay_s)

    threads = [threading.Thread(target=guest, args=(suspect,), daemon=True) for suspect in suspects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_a_suspect_is_never_inside_with_anyone(suspects: list[bool]) -> None:
    house = House()
    go_through(Gate(), house, suspects)
    assert house.trespasses == 0
    assert house.visits == len(suspects)


def test_ordinary_photos_go_through_together() -> None:
    house = House()
    go_through(Gate(), house, [False] * 4, stay_s=0.2)
    assert house.together == 4


def test_a_suspect_is_not_kept_waiting_by_a_stream_of_others() -> None:
    gate, house = Gate(), House()
    through, stop = threading.Event(), threading.Event()

    def stream() -> None:
        while not stop.is_set():
            with gate.ordinary():
                house.visit(False, 0.002)

    def suspect() -> None:
        with gate.alone():
            house.visit(True, 0.002)
        through.set()

    crowd = [threading.Thread(target=stream, daemon=True) for _ in range(4)]
    for thread in crowd:
        thread.start()
    threading.Thread(target=suspect, daemon=True).start()
    assert through.wait(timeout=20)
    stop.set()
    for thread in crowd:
        thread.join(timeout=20)
    assert house.trespasses == 0


@pytest.mark.parametrize("suspect", [False, True])
def test_an_exception_opens_the_gate_again(suspect: bool) -> None:
    gate = Gate()
    with pytest.raises(ValueError, match="inside"), gate.alone() if suspect else gate.ordinary():
        raise ValueError("inside")
    go_through(gate, House(), [True, False])
