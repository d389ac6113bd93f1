"""Who hears signals while a run begins, goes on and ends."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from pipeline.stopping import Stop, Unfinished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_the_inner_block_the_outer_one_still_listens(number: signal.Signals) -> None:
    """Between them somebody else, such as Ray, takes the signal; at the end it is again whose it was."""
    stop, before, theirs = Stop(), signal.getsignal(number), lambda *_: pytest.fail("the run was ended on the spot")
    with stop.listening():
        signal.signal(number, theirs)
        with stop.listening():
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_nothing_is_asked_any_more_when_the_block_is_left() -> None:
    """Ray ends the process, without a word and with 1, if it is shut down while something is asked of it."""
    stop, asked = Stop(), threading.Event()
    answers: list[Unfinished] = []

    def unfinished() -> Unfinished:
        asked.set()
        time.sleep(0.3)
        answers.append(Unfinished(1, 0))
        return answers[-1]

    with stop.listening(), stop.draining(begin_no_more=lambda: None, unfinished=unfinished):
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.wait(10)
    assert len(answers) == 1
    time.sleep(0.5)
    assert len(answers) == 1
