"""Ending a run before its time: SIGINT and SIGTERM, the first to finish what has been begun, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

LOOK_EVERY_S = 0.5
THREAD_WAIT_S = 10.0  # for an answer to the last question of the thread that waits
ROWS_WAIT_S = 30.0  # for rows that are on their way when nobody works any more


class Unfinished(NamedTuple):
    """What a run that begins nothing more still waits for."""

    working: int  # photos that workers have in hand
    coming: int  # rows of photos that they have finished, on their way to the driver


class Stop:
    """What has been asked of a run.

    Attributes:
        say: gets a line on what happens, in another thread than the main one.
    """

    def __init__(self) -> None:
        self.say: Callable[[str], None] = lambda text: None
        self._asked, self._over = threading.Event(), threading.Event()
        self._can_drain = False  # whether the main thread is where a first signal lets finish what has been begun
        self._drained = False
        self._own_signal = False  # is on its way, from the thread that waits for what has been begun
        self._interrupted = False
        self._depth = 0  # of blocks that listen

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals come here, even SIGINT where it was ignored from birth, as in what a shell starts in the background.

        Only the main thread can listen; others do nothing. To be entered again after Ray has started, as Ray takes
        SIGTERM for itself.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGINT, signal.SIGTERM)}
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            for number, handler in before.items():  # of an inner block that is Ray's, which would end us on the spot
                signal.signal(number, self._signalled if self._depth else handler)

    @property
    def asked(self) -> bool:
        """Whether no more photos are begun."""
        return self._asked.is_set()

    def ask(self) -> None:
        """As a first signal does: finish what has been begun, and begin no more photos. From any thread."""
        self._asked.set()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the main thread, whatever it waits for."""
        self._interrupted = True
        _signal_main_thread()

    @contextmanager
    def draining(self, begin_no_more: Callable[[], object], unfinished: Callable[[], Unfinished]) -> Iterator[None]:
        """Where a first signal lets finish what has been begun, and then leaves the block early, without an exception.

        Args:
            begin_no_more: called at the first signal; by another thread, like the next.
            unfinished: what is still waited for.
        """
        thread = threading.Thread(target=self._drain, args=(begin_no_more, unfinished), name="drain", daemon=True)
        thread.start()
        try:
            try:
                self._can_drain = True
                yield
            finally:
                self._can_drain = False
        except KeyboardInterrupt:
            if not self._drained:
                raise
        finally:
            self._over.set()
            self._asked.set()  # lets the thread end
            thread.join(THREAD_WAIT_S)  # what it asks must not go away while it asks: Ray would end the process

    def _signalled(self, *_: object) -> None:
        own, self._own_signal = self._own_signal, False
        if own and not self._can_drain:  # the block was left just before
            return
        if self._can_drain and not self._asked.is_set() and not self._interrupted:
            self._asked.set()
            return
        raise KeyboardInterrupt

    def _drain(self, begin_no_more: Callable[[], object], unfinished: Callable[[], Unfinished]) -> None:
        self._asked.wait()
        if self._over.is_set():
            return
        begin_no_more()
        self.say(
            f"stopping: {unfinished().working} photos have been begun and are being finished; "
            "the same signal again (Ctrl-C) stops at once"
        )
        idle_s = 0.0
        while not self._over.wait(LOOK_EVERY_S):
            left = unfinished()
            idle_s = 0.0 if left.working else idle_s + LOOK_EVERY_S
            if not left.working and (not left.coming or idle_s > ROWS_WAIT_S):
                self._drained = self._own_signal = True
                _signal_main_thread()
                return


def _signal_main_thread() -> None:
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, signal.SIGINT)
