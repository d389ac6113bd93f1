"""A proxy between S3 clients and their store that does what bad networks and busy stores do, by a seed's dice.

One request a connection, which keeps it small; requests go on as they came, with their Host, so that their signatures
hold.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

STALL_S = 2.0
LONGEST_HEAD = 2**17
WRITES = ("PUT", "POST", "DELETE")
BODY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>'
SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
)


class Faults(NamedTuple):
    """Shares of the requests, from 0 to 1."""

    slow_down: float = 0.0  # answered with 503, and nothing done
    reset: float = 0.0  # the connection is reset, and nothing done
    lost: float = 0.0  # of writes: done, and the connection reset in place of an answer
    cut: float = 0.0  # of reads: the connection is reset in the middle of the body
    stall: float = 0.0  # wait for a while before anything else


NONE = Faults()


class Proxy:
    """A proxy that is up.

    Attributes:
        endpoint: where it listens.
        faults: what it does; can be changed meanwhile.
        counts: what it has done: `requests`, and each fault by its name.
    """

    def __init__(self, upstream: str, faults: Faults, seed: int):
        self.endpoint, self.faults, self.counts = "", faults, Counter[str]()
        self._host, self._port = urlsplit(upstream).hostname, urlsplit(upstream).port
        self._dice = random.Random(seed)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if re.search(rb"(?i)\r\nexpect: 100-continue\r\n", head):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = re.sub(rb"(?i)\r\nexpect: 100-continue\r\n", b"\r\n", head)
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
            request = head + await reader.readexactly(int(length[1]) if length else 0)
            await self._answer(head.split(b" ", 1)[0].decode(), request, writer)
        except (OSError, asyncio.IncompleteReadError):  # the client has gone, as those do that are killed
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, request: bytes, writer: StreamWriter) -> None:
        self.counts["requests"] += 1
        if self._hits("stall"):
            await asyncio.sleep(STALL_S)
        if self._hits("slow_down"):
            writer.write(SLOW_DOWN % len(BODY) + (BODY if method != "HEAD" else b""))
            await writer.drain()
            return
        if self._hits("reset"):
            _reset(writer)
            return
        answer = await self._forward(request)
        body = answer.find(b"\r\n\r\n") + 4
        if method in WRITES and self._hits("lost"):
            _reset(writer)
        elif method == "GET" and len(answer) > body + 1 and self._hits("cut"):
            writer.write(answer[: (body + len(answer)) // 2])
            await writer.drain()
            _reset(writer)
        else:
            writer.write(answer)
            await writer.drain()

    def _hits(self, fault: str) -> bool:
        hit = self._dice.random() < getattr(self.faults, fault)
        self.counts[fault] += hit
        return hit

    async def _forward(self, request: bytes) -> bytes:
        """The whole answer of the store, which then closes the connection."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            head, end, body = request.partition(b"\r\n\r\n")
            head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
            writer.write(head + b"\r\nConnection: close" + end + body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


def _reset(writer: StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def proxy(upstream: str, faults: Faults = NONE, seed: int = 0) -> Iterator[Proxy]:
    """A proxy before a store, in a thread of this process, for as long as the context lasts."""
    served, up, loop = Proxy(upstream, faults, seed), threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        server = await asyncio.start_server(served.serve, "127.0.0.1", 0, limit=LONGEST_HEAD)
        served.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        up.set()
        await stopped.wait()
        server.close()

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="proxy", daemon=True)
    thread.start()
    try:
        up.wait()
        yield served
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
