"""A REST server on the loopback, and the faults that it can have at any request."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from support.servers import QuietServer

_PIECE = 64 << 10


class DroppedError(Exception):
    """Cut the connection without a response."""


class TruncatedError(Exception):
    """Send half of the response, and cut the connection."""


class RefusalError(Exception):
    """Respond with a status other than 200."""

    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


Fault = Callable[[int, str, str], None]
"""Called with the number of a request from 1 on, "METHOD path", and "before" or "after" it is done; may raise."""


@dataclass
class RestState:
    """What a server has, and how it behaves. ``routes``: the functions by method and pattern of the path."""

    routes: list[tuple[str, str, Callable[..., Any]]] = field(default_factory=list)
    fault: Fault | None = None
    requests: list[str] = field(default_factory=list)
    received: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    url: str = ""

    def count(self, beginning: str) -> int:
        return sum(request.startswith(beginning) for request in self.requests)


class RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: RestState

    def _any(self) -> None:
        state, parts = self.state, urlsplit(self.path)
        request = f"{self.command} {parts.path}"
        with state.lock:
            state.requests.append(request)
            number = len(state.requests)
        self.query = dict(parse_qsl(parts.query))
        half = False
        try:
            self._fault(number, request, "before")
            status, body, headers = 200, self._routed(parts.path), {}
            if isinstance(body, tuple):
                status, body = body
            try:
                self._fault(number, request, "after")
            except TruncatedError:
                half = True
        except RefusalError as refusal:
            status, body, headers = refusal.status, refusal.body, refusal.headers
        except (DroppedError, TruncatedError, ConnectionError):
            self._cut()
            return
        self._respond(status, body, headers, half=half)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

    def _fault(self, number: int, request: str, when: str) -> None:
        if self.state.fault is not None:
            self.state.fault(number, request, when)

    def _routed(self, path: str) -> Any:
        for method, pattern, function in self.state.routes:
            found = re.fullmatch(pattern, path)
            if found and method == self.command:
                return function(self, *map(unquote, found.groups()))
        raise RefusalError(404, {"message": "Not Found"})

    def body(self) -> bytes:
        """Return the body; DroppedError where the client sends less than it announced."""
        left, data = int(self.headers["Content-Length"]), bytearray()
        while left and (piece := self.rfile.read1(min(left, _PIECE))):
            data += piece
            left -= len(piece)
            with self.state.lock:
                self.state.received += len(piece)
        if left:
            raise DroppedError
        return bytes(data)

    def json(self) -> Any:
        return json.loads(self.body())

    def _respond(self, status: int, body: Any, headers: dict[str, str], *, half: bool) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        try:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if half else data)
            if half:
                self._cut()
        except OSError:
            self.close_connection = True
        if "Content-Length" in self.headers and status >= 400:
            self.close_connection = True  # its body may not have been read

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


def send_range(handler: RestHandler, content: bytes) -> bytes:
    """Return the content, or respond with the range of it that is asked for."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range") or "")
    if asked is None:
        return content
    start, end = int(asked[1]), min(int(asked[2]) + 1, len(content))
    raise RefusalError(206, content[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"})


def page_of(handler: RestHandler, values: list[Any], size: int) -> list[Any]:
    """Return the page of a list that is asked for; ``size``: values of a page by default."""
    size, page = min(100, int(handler.query.get("per_page", size))), int(handler.query.get("page", 1))
    return values[(page - 1) * size : page * size]


@contextmanager
def rest_serving(state: RestState) -> Iterator[None]:
    """Serve while the block runs; ``state.url`` is the address."""
    server = QuietServer(("127.0.0.1", 0), type("Handler", (RestHandler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
