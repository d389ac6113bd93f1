"""Captions from a server: a real one on the loopback that fails in every way that servers have."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.captions.endpoint import DOWN, Endpoint
from supir_core.caption_text import QUESTION
from supir_core.errors import InputError
from tests.pipeline.caption_server import KEY, Server, said
from tests.pipeline.photographs import picture

PICTURE = np.asarray(picture(40, 56))


def endpoint(server: Server, **options: Any) -> Endpoint:
    return Endpoint(server.url, "llava", **{"backoff_s": 0.01, "timeout_s": 10.0, **options})


def reset(handler: BaseHTTPRequestHandler) -> None:
    """The connection is torn down without an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half(handler: BaseHTTPRequestHandler) -> None:
    """The connection ends in the middle of an answer."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + said("A dog")[:20])


def slow(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.6)


def dribbling(handler: BaseHTTPRequestHandler) -> None:
    """A piece now and then, so that no single read times out; whoever waits for all of it has an answer."""
    answer = said("Too late.")
    handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode())
    with suppress(OSError):
        for start in range(0, len(answer), 12):
            handler.wfile.write(answer[start : start + 12])
            time.sleep(0.08)


# The format


def test_the_picture_and_the_question_are_sent_as_chat_completions_want_them(server: Server) -> None:
    caption = endpoint(server, key="CAPTION_KEY", max_tokens=99).caption(PICTURE)
    assert (caption.text, caption.tokens, caption.truncated, caption.warning) == ("A dog on a lawn.", 7, False, "")
    [(_, path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("llava", 99, 0)
    [message] = body["messages"]
    image, text = message["content"]
    assert (message["role"], text) == ("user", {"type": "text", "text": QUESTION})
    head, data = image["image_url"]["url"].split(",")
    assert head == "data:image/jpeg;base64"
    sent = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert sent.shape == PICTURE.shape
    assert np.abs(sent - PICTURE).mean() < 3


def test_without_a_key_none_is_sent(server: Server) -> None:
    endpoint(server).caption(PICTURE)
    assert "Authorization" not in server.requests[0][2]


@pytest.mark.parametrize(
    ("answer", "text", "truncated"),
    [
        (said("The image shows **a dog**."), "a dog.", False),
        (said([{"type": "text", "text": "A "}, {"type": "text", "text": "dog."}]), "A dog.", False),
        (said("A dog on a", finish_reason="length"), "A dog on a.", True),
    ],
)
def test_answers_are_cleaned(answer: bytes, text: str, truncated: bool, server: Server) -> None:
    server.script = lambda n: answer
    caption = endpoint(server).caption(PICTURE)
    assert (caption.text, caption.truncated) == (text, truncated)


def test_an_answer_without_a_caption_is_asked_for_once_more(server: Server) -> None:
    server.script = lambda n: said([None, "I'm sorry, I can't help.", "A dog."][n])
    caption = endpoint(server).caption(PICTURE)
    assert (caption.text, caption.tokens, caption.warning) == ("A dog.", 14, "")
    assert [request[3]["temperature"] for request in server.requests] == [0, 0.7]
    server.script = lambda n: said(None)
    caption = endpoint(server).caption(PICTURE)
    assert (caption.text, caption.warning) == ("", "caption-empty")
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("{}", "/v1/chat/completions"),
        ("{}/", "/v1/chat/completions"),
        ("{}/chat/completions?v=2", "/v1/chat/completions?v=2"),
    ],
)
def test_the_url_may_be_the_apis_or_the_completions(url: str, asked: str, server: Server) -> None:
    Endpoint(url.format(server.url), "llava").caption(PICTURE)
    assert server.requests[0][1] == asked


@pytest.mark.parametrize(
    "url", ["", "example.org/v1", "file:///etc/passwd", f"https://me:{KEY}@example.org/v1", "http://[", "https://"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(InputError) as raised:
        Endpoint(url, "llava")
    assert raised.value.code == "caption-endpoint"
    assert KEY not in str(raised.value)


# What passes


@pytest.mark.parametrize(
    "failure",
    [
        500,
        502,
        503,
        529,
        429,
        408,
        reset,
        half,
        slow,
        dribbling,
        b"<html>busy</html>",
        b"{}",
        b'{"choices": []}',
        b"[1]",
    ],
    ids=lambda failure: getattr(failure, "__name__", str(failure)),
)
def test_what_may_pass_is_tried_again(failure: Any, server: Server) -> None:
    server.script = lambda n: failure if n <= 2 else said("A dog.")
    asked = endpoint(server, timeout_s=0.25, give_up_after=1)
    caption = asked.caption(PICTURE)
    assert (caption.text, caption.warning, asked.down) == ("A dog.", "", "")
    assert len(server.requests) == 3


def test_pauses_grow(server: Server) -> None:
    server.script = lambda n: 500 if n <= 4 else said("A dog.")
    endpoint(server, backoff_s=0.05).caption(PICTURE)
    times = [request[0] for request in server.requests]
    pauses = [after - before for before, after in pairwise(times)]
    assert len(pauses) == 4
    assert all(pause >= 0.05 * 2**i / 2 for i, pause in enumerate(pauses))


@pytest.mark.parametrize("after", [lambda: "0.5", lambda: "1", lambda: formatdate(time.time() + 2, usegmt=True)])
def test_a_server_that_asks_for_time_gets_it_from_all_threads(after: Callable[[], str], server: Server) -> None:
    server.script = lambda n: (429, {"Retry-After": after()}) if n == 1 else said("A dog.")
    asked = endpoint(server)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(asked.caption, PICTURE)
        while not asked._pause_until_s:
            time.sleep(0.01)
        others = [pool.submit(asked.caption, PICTURE) for _ in range(2)]
        assert {future.result().text for future in (first, *others)} == {"A dog."}
    assert min(request[0] for request in server.requests[1:]) - server.requests[0][0] >= 0.4


@pytest.mark.parametrize("as_date", [False, True])
def test_nobody_waits_for_an_hour(as_date: bool, server: Server) -> None:
    after = formatdate(time.time() + 3600, usegmt=True) if as_date else "3600"
    server.script = lambda n: (503, {"Retry-After": after})
    start = time.monotonic()
    assert endpoint(server).caption(PICTURE).warning.startswith("caption-failed: 503")
    assert time.monotonic() - start < 5
    assert len(server.requests) == 1


@pytest.mark.parametrize("after", ["nan", "-5", "soon", "inf", "1e9"])
def test_nonsense_about_time_is_ignored(after: str, server: Server) -> None:
    server.script = lambda n: (503, {"Retry-After": after}) if n == 1 else said("A dog.")
    assert endpoint(server).caption(PICTURE).text == "A dog."


# The circuit breaker


def test_so_many_photos_in_a_row_end_the_captions_of_the_run(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.script = lambda n: 503
    asked = endpoint(server, attempts=2, give_up_after=3)
    with caplog.at_level(logging.WARNING):
        failed = [asked.caption(PICTURE) for _ in range(3)]
    assert [caption.warning for caption in failed] == ["caption-failed: 503 Service Unavailable: no luck"] * 3
    assert len(server.requests) == 6
    assert "3 photos failed in a row" in asked.down
    assert len(caplog.records) == 1 and asked.down in caplog.text
    server.script = lambda n: said("A dog.")
    after = [asked.caption(PICTURE) for _ in range(10)]
    assert {(caption.text, caption.warning.partition(":")[0]) for caption in after} == {("", DOWN)}
    assert len(server.requests) == 6, "it is not asked any more"
    assert max(caption.seconds for caption in after) < 0.5


def test_photos_count_not_attempts_and_only_in_a_row(server: Server) -> None:
    server.script = lambda n: said("A dog.") if n % 5 == 0 else 500
    asked = endpoint(server, attempts=5, give_up_after=2)
    assert [asked.caption(PICTURE).text for _ in range(4)] == ["A dog."] * 4, "four attempts of five fail"
    outcomes = iter([500, said("A dog.")] * 4)
    server.script = lambda n: next(outcomes)
    asked = endpoint(server, attempts=1, give_up_after=2)
    assert [bool(asked.caption(PICTURE).text) for _ in range(8)] == [False, True] * 4
    assert not asked.down


@pytest.mark.parametrize("status", [401, 403, 404, 402, 405])
def test_what_no_photo_comes_past_ends_them_at_once(status: int, server: Server) -> None:
    server.script = lambda n: status
    asked = endpoint(server)
    assert [asked.caption(PICTURE).warning for _ in range(3)] == [f"{DOWN}: {asked.down}"] * 3
    assert len(server.requests) == 1
    assert asked.down.startswith(f"{status} ") and asked.down.endswith(": no luck")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_does_not_get_the_key(status: int, server: Server) -> None:
    elsewhere = Server()
    server.script = lambda n: (status, {"Location": elsewhere.url})
    asked = endpoint(server, key="CAPTION_KEY")
    assert asked.caption(PICTURE).warning == f"{DOWN}: {asked.down}"
    elsewhere.close()
    assert elsewhere.requests == []
    assert asked.down.startswith(str(status))


def test_a_password_in_a_broken_url_is_not_shown() -> None:
    with pytest.raises(InputError) as raised:
        Endpoint("http://me:hunter2@[broken", "m")
    assert "hunter2" not in str(raised.value) and "'[broken' is no URL" in str(raised.value)


def test_a_server_is_asked_before_a_run(server: Server) -> None:
    server.script = lambda n: 401
    with pytest.raises(InputError, match="refuses: 401") as raised:
        endpoint(server).check()
    assert raised.value.code == "caption-endpoint" and len(server.requests) == 1
    for answer in (503, 400, said("A grey square.")):
        server.script = lambda n, answer=answer: answer
        endpoint(server).check()
    assert len(server.requests) == 4, "no reason against it, and not tried again"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_picture_is_alone_in_that(status: int, server: Server) -> None:
    server.script = lambda n: status if n < 9 else said("A dog.")
    asked = endpoint(server, give_up_after=2)
    refused = [asked.caption(PICTURE) for _ in range(8)]
    assert all(caption.warning.startswith(f"caption-failed: {status} ") for caption in refused)
    assert len(server.requests) == 8, "and is not tried again"
    assert asked.caption(PICTURE).text == "A dog."


def test_whoever_waits_is_told_when_the_captions_end(server: Server) -> None:
    server.script = lambda n: 500 if n == 1 else 401
    asked = endpoint(server, backoff_s=60)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(asked.caption, PICTURE)
        while not server.requests:
            time.sleep(0.01)
        start = time.monotonic()
        assert pool.submit(asked.caption, PICTURE).result().warning.startswith(DOWN)
        assert waiting.result().warning.startswith(DOWN)
    assert time.monotonic() - start < 10
    assert len(server.requests) == 2


def test_a_server_that_is_not_there(server: Server) -> None:
    asked = endpoint(server, attempts=2, give_up_after=1)
    server.close()
    caption = asked.caption(PICTURE)
    assert caption.text == "" and caption.warning.startswith("caption-failed: ")
    assert "refused" in asked.down


# Threads and secrets


def test_at_most_so_many_requests_at_once(server: Server) -> None:
    server.work_s = 0.05
    asked = endpoint(server, concurrent=3)
    with ThreadPoolExecutor(12) as pool:
        captions = list(pool.map(asked.caption, [PICTURE] * 24))
    assert {caption.text for caption in captions} == {"A dog on a lawn."}
    assert server.most_at_once == 3


def test_the_key_is_shown_nowhere(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def echo(handler: Any) -> None:
        body = json.dumps({"error": {"message": f"bad {handler.headers['Authorization']}"}}).encode()
        handler.send_response(401, f"no {KEY}")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.script = lambda n: echo
    asked = endpoint(server, key="CAPTION_KEY")
    with caplog.at_level(logging.DEBUG):
        caption = asked.caption(PICTURE)
    assert "Bearer ***" in asked.down
    shown = f"{asked!r} {asked} {asked.down} {caption} {asked.digest} {caplog.text}"
    assert KEY not in shown and "secret" not in shown
    assert "CAPTION_KEY" not in repr(asked)


@pytest.mark.parametrize("value", ["", "  ", f"{KEY}\r\nX: y", "sch\u00fcssel"])
def test_a_variable_without_a_key(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", value)
    with pytest.raises(InputError) as raised:
        Endpoint("http://127.0.0.1/v1", "llava", key="CAPTION_KEY")
    assert raised.value.code == "caption-endpoint"
    assert "CAPTION_KEY" in str(raised.value)
    assert not value.strip() or value not in f"{raised.value} {raised.value.hint}"


def test_a_digest_hangs_on_what_decides_the_captions(server: Server) -> None:
    digests = {
        endpoint(server, **change).digest for change in ({}, {"question": "What?"}, {"max_tokens": 9}, {"timeout_s": 1})
    }
    digests |= {Endpoint(server.url, "qwen").digest, Endpoint(server.url + "/other", "llava").digest}
    assert len(digests) == 5
