"""No secret leaves this machine with a command: what is submitted can be read by everybody who can read the cluster."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

from supir_core.errors import InputError

_NAMES = re.compile(r"secret|token|password|passwd|credential|signature|api_?key|access_?key", re.IGNORECASE)
SHORTEST = 8  # characters; what is shorter is found in words by chance


def check(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a command that holds a secret.

    Args:
        words: of the command.
        environment: variables; the values of those that are called secret or token or so are looked for.

    Raises:
        InputError: `secret-in-argument`; the message does not repeat it.
    """
    for option, word in zip(["", *words], words, strict=False):
        name = option if option.startswith("--") else "an argument"
        if "://" in word and _in_uri(word):
            raise _refused(name, "a URI with a user, a password or a signature in it")
        for variable, value in environment.items():
            if _NAMES.search(variable) and len(value) >= SHORTEST and value in word:
                raise _refused(name, f"the value of the environment variable {variable}")


def _in_uri(word: str) -> bool:
    """Of a word that is a URI, or KEY=URI."""
    before, _, _ = word.partition("://")
    try:
        uri = urlsplit(word[before.rfind("=") + 1 :])
    except ValueError:
        return False
    return "@" in uri.netloc or any(_NAMES.search(name) for name, _ in parse_qsl(uri.query))


def _refused(name: str, what: str) -> InputError:
    return InputError(
        f"{name} holds {what}, which everybody would see who sees the cluster's jobs",
        hint="give nodes a role, or set an environment variable there and name it (--set caption.endpoint_key=NAME)",
        code="secret-in-argument",
    )
