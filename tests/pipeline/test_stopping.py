"""Who hears signals while a run begins, goes on and ends."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.stopping import Stop


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
