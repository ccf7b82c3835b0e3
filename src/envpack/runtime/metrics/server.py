"""A small HTTP server of metrics, for Prometheus to scrape: GET and HEAD of /metrics, nothing else.

What a client can take is limited: the bytes and the time of its request, the time of the answer, and the number of
connections; one request at a time reads the host. This is the standard library's server and not that of
prometheus_client, because the runtime in a bundle needs it, where there is no other library.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Callable

from envpack.runtime.errors import EnvpackError, UsageError
from envpack.runtime.metrics.exposition import CONTENT_TYPE

PATH = "/metrics"

_MOST_BYTES = 16 << 10
"""Of a request's head."""

_PATIENCE = 10
"""Seconds for a request to arrive, and for its answer to be taken: Prometheus' own limit of a whole scrape
(scrape_timeout)."""

_CONNECTIONS = 8


class MetricsServer(ThreadingMixIn, TCPServer):
    """A server that listens from its creation on; `serve_forever` answers.

    Args:
        address: The address or host name to listen on.
        port: The port; 0 for any that is free.
        read: Returns the text of the metrics; called by one thread at a time.
        warn: Receives why a request could not be answered.

    Raises:
        UsageError: There is no such address, or no such port.
        EnvpackError: The port is taken, or this user may not listen on it.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = _CONNECTIONS

    def __init__(self, address: str, port: int, read: Callable[[], str], warn: Callable[[str], None]) -> None:
        self.read, self.warn = read, warn
        self.reading = threading.Lock()
        self._open: set[Any] = set()
        self.address_family, place = _resolved(address, port)
        try:
            super().__init__(place, _Handler)
        except OSError as problem:
            raise _refused(address, port, problem) from None

    @property
    def url(self) -> str:
        """The URL of the metrics."""
        host, port = self.server_address[:2]
        host = host.decode() if isinstance(host, (bytes, bytearray)) else host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; close the connection when there are too many."""
        if len(self._open) >= _CONNECTIONS:
            self.shutdown_request(request)
            return
        self._open.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:  # a signal, which may come when the thread has already ended
            self._open.discard(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection; its place is free before the client sees the end of it."""
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self._open.discard(request)
            self.shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that went away, or was too slow."""


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = _PATIENCE

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile: Any = io.BytesIO(_head(self.connection))
        self.connection.settimeout(_PATIENCE)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self._answer(404, f"The metrics are at {PATH}\n", "text/plain; charset=utf-8")
            return
        try:
            with self.server.reading:
                text = self.server.read()
        except Exception as problem:  # whatever it is, the next request is answered
            self.server.warn(f"the metrics can't be read: {type(problem).__name__}: {problem}")
            self._answer(500, "The metrics can't be read; the log of the server says why\n", "text/plain")
            return
        self._answer(200, text, CONTENT_TYPE)

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, text: str, content_type: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def version_string(self) -> str:
        return "envpack"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log no requests: Prometheus makes one every few seconds."""


def _head(connection: socket.socket) -> bytes:
    """Return what a client sends, up to the empty line; b"" when it is too long or takes too long."""
    data, end = b"", time.monotonic() + _PATIENCE
    while b"\r\n\r\n" not in data and b"\n\n" not in data:
        left = end - time.monotonic()
        if left <= 0 or len(data) > _MOST_BYTES:
            return b""
        connection.settimeout(left)
        try:
            piece = connection.recv(4096)
        except OSError:
            return b""
        if not piece:
            break
        data += piece
    return data


def _resolved(address: str, port: int) -> tuple[socket.AddressFamily, Any]:
    if not 0 <= port <= 65535:
        raise UsageError(
            f"there is no port {port}", hint="Choose one from 1024 to 65535, or 0 for any that is free."
        )
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        why = getattr(problem, "strerror", None) or "it is not valid"
        raise UsageError(f"the address {address} is not known: {why}") from None
    return found[0][0], found[0][4]


def _refused(address: str, port: int, problem: OSError) -> EnvpackError:
    if problem.errno == errno.EADDRINUSE:
        return EnvpackError(
            f"port {port} of {address} is in use by another process",
            hint=f"Choose another port, or find the process: ss -ltnp 'sport = :{port}'",
        )
    if problem.errno in (errno.EACCES, errno.EPERM):
        return EnvpackError(
            f"this user may not listen on port {port} of {address}", hint="Choose a port from 1024 to 65535."
        )
    if problem.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"{address} is not an address of this host", hint="'ip addr' shows them.")
    return EnvpackError(f"can't listen on port {port} of {address}: {os.strerror(problem.errno or 0)}")
