"""What the exit codes mean, and how errors are shown."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from pipeline import logs
from supir_core.errors import SupirError

Command = Callable[[], int | None]

DONE = 0
BUG = 1
WRONG_INPUT = 2
SOME_FAILED = 3
INTERRUPTED = 130

log = logging.getLogger(__name__)


def guarded(command: Command) -> int:
    """Run a command and turn what it raises into an exit code and, for errors that are ours, one helpful line."""
    try:
        return command() or DONE
    except SupirError as error:
        show(error)
        return WRONG_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what was finished is kept, the same command goes on from here\n")
        return INTERRUPTED


def show(error: SupirError) -> None:
    """`error[code]: ...` and a hint, on stderr; one log line where the process logs as JSON."""
    if logs.is_json():
        log.error(str(error), extra={"facts": {"code": error.code, "hint": error.hint or None}})
        return
    sys.stderr.write(f"error[{error.code}]: {error}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
