"""Captions from a server that speaks OpenAI's chat completions, with retries and a circuit breaker.

A server that fails costs a run its captions, never its photos: whatever happens, a `Caption` comes back.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import http.client
import io
import json
import logging
import os
import random
import re
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.captions.captioning import Captioning
from supir_core.caption_model import RETRY
from supir_core.caption_text import CLEANING, QUESTION, Caption, clean
from supir_core.errors import InputError

DOWN = "caption-endpoint-down"
JPEG_QUALITY = 90
LONGEST_PAUSE_S = 60.0  # between attempts; a server that asks for more has failed
LARGEST_ANSWER_BYTES = 1 << 20

log = logging.getLogger(__name__)


class _TryAgain(Exception):
    """What may pass: an overloaded server, a lost connection."""

    def __init__(self, what: str, after_s: float = 0.0):
        super().__init__(what)
        self.after_s = after_s


class _BadPicture(Exception):
    """What this picture alone is refused for."""


class _Refused(Exception):
    """What no picture will come past: a wrong key, a wrong address."""


class _Answer(NamedTuple):
    text: str
    tokens: int
    truncated: bool


class Endpoint:
    """A server of captions, for all threads of a process.

    Args:
        url: of the API, such as `https://example.org/v1`, or of its `chat/completions`.
        model: the server's name of it.
        key: the NAME of the environment variable that holds the API key; empty if the server wants none.
        question: what is asked with each picture.
        max_tokens: of one answer.
        timeout_s: for one attempt.
        concurrent: at most this many requests at once.
        attempts: for one answer.
        give_up_after: so many photos failed in a row end all captions of the run.
        backoff_s: before the second attempt; twice as long before each further one, and by chance half of it or more.

    Raises:
        InputError: an impossible URL, or no such environment variable (`caption-endpoint`).
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str = "",
        question: str = QUESTION,
        max_tokens: int = 128,
        timeout_s: float = 60.0,
        concurrent: int = 4,
        *,
        attempts: int = 5,
        give_up_after: int = 5,
        backoff_s: float = 1.0,
    ):
        self.url = _completions_url(url)
        self.model = model
        self.question = question
        self.max_tokens = max_tokens
        self.timeout_s = timeout_s
        self.attempts = attempts
        self.give_up_after = give_up_after
        self.backoff_s = backoff_s
        self.down = ""  # why no more captions come; empty while they do
        self._key = _secret(key)
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._slots = threading.BoundedSemaphore(concurrent)
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._pause_until_s = 0.0  # by time.monotonic; what a server asks of one request, it means for all
        self._opened = threading.Event()

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, {self.model!r})"  # not its key

    @property
    def digest(self) -> str:
        """12 hex digits of what decides its captions, as far as that is known here."""
        decides = [self.url, self.model, self.question, self.max_tokens, CLEANING]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]

    def caption(self, picture: np.ndarray) -> Caption:
        """The caption of a picture; without text and with a warning if there is none.

        Args:
            picture: (H, W, 3) uint8, sRGB, upright; best `image.shrunk`.
        """
        begun_s = time.monotonic()
        if self.down:
            return _none(f"{DOWN}: {self.down}", begun_s)
        try:
            answers = [self._answer(picture, {"temperature": 0})]
            if not clean(answers[0].text):
                answers.append(self._answer(picture, {"temperature": RETRY.temperature, "top_p": RETRY.top_p}))
        except _BadPicture as error:
            return _none(f"caption-failed: {error}", begun_s)
        except _TryAgain as error:
            self._count_failure(str(error))
            return _none(f"caption-failed: {error}", begun_s)
        except _Refused as error:
            self._open(str(error))
            return _none(f"{DOWN}: {self.down}", begun_s)
        with self._lock:
            self._failed_in_a_row = 0
        text = clean(answers[-1].text)
        tokens = sum(answer.tokens for answer in answers)
        warning = "" if text else "caption-empty"
        return Caption(text, tokens, answers[-1].truncated, time.monotonic() - begun_s, warning)

    def check(self) -> None:
        """Ask for one small grey picture, once: a run should not begin with a server that will have nothing of it.

        What may pass, and what the server says of that picture, is no reason against it.

        Raises:
            InputError: a wrong address, key or certificate (`caption-endpoint`).
        """
        try:
            self._post(self._request(np.full((64, 64, 3), 128, np.uint8), {"temperature": 0}))
        except (_TryAgain, _BadPicture) as error:
            log.warning("the caption server says: %s", error)
        except _Refused as error:
            raise InputError(
                f"{self.url.partition('?')[0]} refuses: {error}",
                hint="is the address right, and caption.endpoint_key the NAME of the variable with the key?",
                code="caption-endpoint",
            ) from None

    def _request(self, picture: np.ndarray, sampling: dict[str, float]) -> bytes:
        content = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}},
            {"type": "text", "text": self.question},
        ]
        asked = {"model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": self.max_tokens}
        return json.dumps(asked | sampling).encode()

    def _answer(self, picture: np.ndarray, sampling: dict[str, float]) -> _Answer:
        body = self._request(picture, sampling)
        for attempt in range(1, self.attempts + 1):
            self._wait_for(self._pause_until_s - time.monotonic())
            try:
                with self._slots:
                    self._wait_for(0)
                    return _parsed(self._post(body))
            except _TryAgain as error:
                if attempt == self.attempts or error.after_s > LONGEST_PAUSE_S:
                    raise
                if error.after_s:
                    with self._lock:
                        self._pause_until_s = max(self._pause_until_s, time.monotonic() + error.after_s)
                pause_s = min(self.backoff_s * 2 ** (attempt - 1), LONGEST_PAUSE_S)
                self._wait_for(pause_s * random.uniform(0.5, 1.0))
        raise AssertionError("there is at least one attempt")

    def _wait_for(self, pause_s: float) -> None:
        """A pause that ends when the run's captions do.

        Raises:
            _Refused: they have.
        """
        if self._opened.wait(max(pause_s, 0)):
            raise _Refused(self.down)

    def _post(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "supir"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, body, headers)
        try:
            with self._opener.open(request, timeout=self.timeout_s) as response:
                return _read_all(response, time.monotonic() + self.timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise self._failure(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise _Refused(f"its certificate is not valid: {reason.verify_message}") from None
            raise _TryAgain(self._without_key(str(reason) or type(reason).__name__)) from None

    def _failure(self, error: urllib.error.HTTPError) -> Exception:
        """What an HTTP status means for the picture and for the run."""
        what = f"{error.code} {error.reason}"
        try:
            said = _message(error.read(4096))
        except (OSError, http.client.HTTPException):
            said = ""
        what = self._without_key(f"{what}: {said}" if said else what)
        if error.code in (408, 425, 429) or error.code >= 500:
            return _TryAgain(what, _retry_after_s(error.headers.get("Retry-After", "")))
        return _BadPicture(what) if error.code in (400, 413, 415, 422) else _Refused(what)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text  # some servers repeat it in their errors

    def _count_failure(self, what: str) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            many = self._failed_in_a_row >= self.give_up_after
        if many:
            self._open(f"{self.give_up_after} photos failed in a row, the last one with: {what}")

    def _open(self, why: str) -> None:
        with self._lock:
            if self.down:
                return
            self.down = why
        self._opened.set()
        log.warning("no more captions in this run: %s: %s", self.url.partition("?")[0], why)


def endpoint_of(captioning: Captioning) -> Endpoint:
    """The server that a run asks.

    Raises:
        InputError: an impossible URL or key (`caption-endpoint`).
    """
    return Endpoint(
        captioning.endpoint,
        captioning.endpoint_model,
        captioning.endpoint_key,
        captioning.question or QUESTION,
        max_tokens=captioning.max_tokens,
        timeout_s=captioning.time_limit_s,
        concurrent=captioning.requests,
        give_up_after=captioning.give_up_after,
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects would take the key to another server."""

    def redirect_request(self, *_: Any) -> None:
        """None: the redirect is an error."""


def _completions_url(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        parts = urllib.parse.urlsplit("")
    if parts.username or parts.password:
        raise InputError(
            f"caption.endpoint: no user names or passwords in the URL of {parts.hostname}",
            hint="--set caption.endpoint_key=NAME takes a key from the environment variable NAME",
            code="caption-endpoint",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"caption.endpoint: {url.rpartition('@')[2]!r} is no URL of a server",  # without a password, if it has one
            hint="such as https://example.org/v1",
            code="caption-endpoint",
        )
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith("/completions") else path + "/chat/completions").geturl()


def _secret(name: str) -> str:
    """The key in an environment variable; what is said of it never shows it."""
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InputError(
            f"the environment variable {name} holds no API key", hint=f"export {name}=...", code="caption-endpoint"
        )
    return key


def _data_url(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _read_all(response: http.client.HTTPResponse, deadline_s: float) -> bytes:
    """The body. The socket's timeout is for each piece: a server could send one byte a minute."""
    data = b""
    while piece := response.read1(1 << 16):
        data += piece
        if time.monotonic() > deadline_s:
            raise TimeoutError("timed out")
        if len(data) > LARGEST_ANSWER_BYTES:
            raise _TryAgain("an absurdly long answer")
    return data  # if the connection ended too early, it does not parse


def _parsed(body: bytes) -> _Answer:
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        content = choice["message"]["content"] or ""
        if not isinstance(content, str):
            content = "".join(part.get("text", "") for part in content)
        tokens = int((answer.get("usage") or {}).get("completion_tokens") or 0)
        return _Answer(content, tokens, choice.get("finish_reason") == "length")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _TryAgain(f"not an answer of chat completions ({type(error).__name__})") from None


def _message(body: bytes) -> str:
    """What a server says of an error, in one short line."""
    text = body.decode("utf-8", "replace")
    try:
        error = json.loads(text)
        error = error.get("error", error.get("detail", error))
        text = error["message"] if isinstance(error, dict) else error if isinstance(error, str) else text
    except (ValueError, LookupError, AttributeError):
        pass
    return " ".join(str(text).split())[:200]


def _retry_after_s(header: str) -> float:
    """Seconds, or a date; 0 if it is neither."""
    if re.fullmatch(r"\d{1,9}(\.\d*)?", header, re.ASCII):
        return float(header)
    try:
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _none(warning: str, begun_s: float) -> Caption:
    return Caption("", seconds=time.monotonic() - begun_s, warning=warning)
