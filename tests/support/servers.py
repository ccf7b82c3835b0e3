"""Real servers on the loopback: with ranges or without, TLS, passwords, faults; each counts what it serves."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")
_PIECE = 64 << 10


@dataclass
class Files:
    """What a server serves, and how. ``drop_after``: bytes of an answer after which the connection is cut, the
    next ``drops`` times; ``before``: called with the handler first, which has answered when it returns True."""

    data: dict[str, bytes]
    ranges: bool = True
    etag: bool = True
    dated: bool = True
    drop_after: int = 0
    drops: int = 0
    pause: float = 0.0
    busy: int = 0
    user: str = ""
    before: Callable[[Any], bool] | None = None
    served: int = 0
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    connections: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def reset(self) -> None:
        self.served, self.connections = 0, 0
        self.requests.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def setup(self) -> None:
        super().setup()
        with self.files.lock:
            self.files.connections += 1

    def do_HEAD(self) -> None:
        self.refuse(403)  # as a presigned URL, which is for GET alone

    def do_GET(self) -> None:
        files = self.files
        asked = self.headers.get("Range") or ""
        with files.lock:
            files.requests.append((self.command, self.path, asked))
            busy = files.busy
            files.busy -= busy > 0
        if files.before is not None and files.before(self):
            return
        if busy:
            self.refuse(503)
            return
        if files.user and self.headers.get("Authorization") != files.user:
            self.refuse(401)
            return
        data = files.data.get(urlsplit(self.path).path)  # a proxy is asked for whole URLs
        if data is None:
            self.refuse(404)
            return
        self.answer(data, asked)

    def do_CONNECT(self) -> None:
        with self.files.lock:
            self.files.requests.append((self.command, self.path, ""))
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as onward:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pass_on, args=(onward, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, onward)
            back.join()
        self.close_connection = True

    def answer(self, data: bytes, asked: str) -> None:
        etag = f'"{hash(data) & 0xFFFFFFFF:08x}"'
        found = _RANGE.match(asked) if self.files.ranges else None
        stale = "If-Range" in self.headers and self.headers["If-Range"] != etag
        start, end = 0, len(data)
        if found and not stale:
            start, end = int(found[1]), min(int(found[2] or len(data)) + 1, len(data))
            if start >= len(data):
                self.refuse(416, {"Content-Range": f"bytes */{len(data)}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        else:
            self.send_response(200)
        if self.files.etag:
            self.send_header("ETag", etag)
        if self.files.dated:
            self.send_header("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.send(memoryview(data)[start:end])

    def send(self, view: memoryview) -> None:
        files = self.files
        with files.lock:
            drop = files.drop_after if files.drops > 0 and len(view) > files.drop_after else 0
            files.drops -= drop > 0
        if drop:
            view = view[:drop]
        while view:
            with files.lock:
                files.served += len(view[:_PIECE])
            try:
                self.wfile.write(view[:_PIECE])
            except OSError:
                self.close_connection = True
                return
            view = view[_PIECE:]
            time.sleep(files.pause)
        if drop:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def redirect(self, where: str) -> None:
        self.refuse(302, {"Location": where})

    def log_message(self, format: str, *args: object) -> None:
        pass


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that goes away early is what some tests are about


@contextmanager
def serving(data: dict[str, bytes], certificate: Path | None = None, **how: Any) -> Iterator[Files]:
    """Serve these paths while the block runs, at ``url``."""
    files = Files(data, **how)
    server = QuietServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"files": files}))
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    files.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def make_certificate(folder: Path) -> Path:
    """Write a key and a self-signed certificate for 127.0.0.1 into one file."""
    both, key = folder / "both.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(key), "-out", str(both), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + key.read_bytes())
    return both
