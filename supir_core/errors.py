"""What can go wrong, as one tree.

    SupirError            never raised itself; `code` is stable, `hint` says what to do
    |- InputError         a wrong option, path or manifest: stops before any work is done
    |  `- PresetError     a preset that does not exist or does not parse
    |- WeightsError       a missing, wrong or damaged weights file: stops the job when an actor is built
    |- ClusterError       a Ray cluster that cannot be reached or has gone away
    |- StorageError       a store that cannot be read or written
    `- PhotoError         one photo that cannot be restored: becomes a row, never the end of a run

Anything else that is raised is a bug of ours and propagates.
"""


class SupirError(Exception):
    """What went wrong, in one line, with a stable code and a hint.

    Args:
        message: what is wrong, naming the thing that is wrong.
        hint: what to do about it; may be empty.
        code: kebab-case, stable between versions; the class's own when not given.
    """

    code = "supir"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None):
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code


class InputError(SupirError):
    """A wrong option, path or manifest."""

    code = "input"


class PresetError(InputError):
    """A preset that does not exist or does not parse."""

    code = "preset"


class WeightsError(SupirError):
    """A missing, wrong or damaged weights file."""

    code = "weights"


class ClusterError(SupirError):
    """A Ray cluster that cannot be reached or has gone away."""

    code = "cluster"


class StorageError(SupirError):
    """A store that cannot be read or written."""

    code = "storage"


class PhotoError(SupirError):
    """One photo that cannot be restored; `code` says why and stands in the photo's row."""

    code = "photo"
