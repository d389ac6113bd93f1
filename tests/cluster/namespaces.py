"""Machines of a small network, as far as processes can tell: network namespaces, each with its own /tmp and /dev/shm.

Nothing that is not sent over the network gets from one to another, but for the programs, which all of them see.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import pytest

ENTER = """
mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && hostname "$1" &&
mkdir -p "$HOME" && cd "$HOME" && shift && exec "$@"
"""


class Machine(NamedTuple):
    """One of them."""

    name: str
    address: str
    before: list[str]  # words before a command that is to run there


class Network(NamedTuple):
    """All of them."""

    address: str  # of this process
    machines: list[Machine]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def network(count: int) -> Iterator[Network]:
    """Machines on a network of their own, which goes with the context; skips the test where that is not permitted."""
    bridge, prefix = f"supir{os.getpid() % 10000}", f"10.231.{os.getpid() % 250}"
    with ExitStack() as stack:
        try:
            _ip("link", "add", bridge, "type", "bridge")
            stack.callback(_ip, "link", "del", bridge)
            _ip("address", "add", f"{prefix}.1/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            machines = []
            for number in range(count):
                name, inner, outer = f"{bridge}-{number}", f"i{bridge}{number}", f"o{bridge}{number}"
                address = f"{prefix}.{10 + number}"
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "del", name)
                _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
                _ip("link", "set", outer, "master", bridge, "up")
                _ip("-n", name, "address", "add", f"{address}/24", "dev", inner)
                _ip("-n", name, "link", "set", inner, "up")
                _ip("-n", name, "link", "set", "lo", "up")
                host = f"machine-{number}"
                enter = [
                    "ip",
                    "netns",
                    "exec",
                    name,
                    "unshare",
                    "--mount",
                    "--uts",
                    "--ipc",
                    "sh",
                    "-c",
                    ENTER,
                    "sh",
                    host,
                ]
                subprocess.run([*enter, "true"], check=True, capture_output=True, text=True)
                machines.append(Machine(host, address, enter))
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"no network namespaces here: {said.strip()}")
        yield Network(f"{prefix}.1", machines)


@contextmanager
def forwarded(address: str, port: int) -> Iterator[str]:
    """Connections to a new port of an address go to a port of the loopback; the new one as host:port."""
    loop = asyncio.new_event_loop()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            theirs, to_them = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pass_on(reader, to_them), pass_on(theirs, writer))

    server = loop.run_until_complete(asyncio.start_server(serve, address, 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        host, own = server.sockets[0].getsockname()
        yield f"{host}:{own}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
