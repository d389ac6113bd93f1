"""An OpenAI-compatible server on the loopback that fails in every way that servers have."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret-0123456789"


def said(text: Any, **choice: Any) -> bytes:
    """A good answer."""
    message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | choice
    return json.dumps({"choices": [message], "usage": {"completion_tokens": 7}}).encode()


class Server:
    """An OpenAI-compatible server that does with its n-th request what `script(n)` says.

    bytes: answers 200 with them. int: an error of that status. (int, headers): the same with headers. A function: is
    given the handler and answers itself.
    """

    def __init__(self) -> None:
        self.script: Callable[[int], Any] = lambda n: said("A dog on a lawn.")
        self.requests: list[tuple[float, str, dict[str, str], dict[str, Any]]] = []
        self.at_once, self.most_at_once, self.work_s = 0, 0, 0.0
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                    server.requests.append((time.monotonic(), self.path, dict(self.headers), body))
                    number = len(server.requests)
                time.sleep(server.work_s)
                with lock:
                    server.at_once -= 1
                self.do(server.script(number))

            def do_GET(self) -> None:
                server.requests.append((time.monotonic(), self.path, dict(self.headers), {}))
                self.do(said("followed"))

            def do(self, answer: Any) -> None:
                if callable(answer):
                    answer(self)
                    return
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                body = answer if isinstance(answer, bytes) else b'{"error": {"message": "no\\nluck", "type": "x"}}'
                self.send_response(200 if isinstance(answer, bytes) else status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self._thread = threading.Thread(target=lambda: self.http.serve_forever(poll_interval=0.01), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()
