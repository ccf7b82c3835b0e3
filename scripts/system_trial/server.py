"""A web server on the loopback that serves the files of a folder, whole or in ranges (RFC 9110, section 14)."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_PIECE = 1 << 20


@dataclass
class Serving:
    """A server that runs: the URL that names are appended to, and the bytes of files that it has sent."""

    folder: Path
    url: str = ""
    sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, number: int) -> None:
        with self._lock:
            self.sent += number


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, serving: Serving, *arguments: Any) -> None:
        self._serving = serving
        super().__init__(*arguments)

    def do_GET(self) -> None:
        path = self._serving.folder / self.path.rpartition("/")[2]
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin, end = 0, size
        if asked:
            begin, end = int(asked[1]), min(int(asked[2] or size) + 1, size)
            if begin >= size:
                self.send_error(416)
                return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - begin))
        self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}"')
        self.end_headers()
        with path.open("rb") as stream, suppress(ConnectionError):  # a client may take what it needs and go
            stream.seek(begin)
            while begin < end:
                piece = stream.read(min(_PIECE, end - begin))
                self._serving.count(len(piece))  # before the client has it all
                begin += self.wfile.write(piece)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing: requests are no news."""


@contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """Serve the files of ``folder``."""
    served = Serving(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served))
    served.url = f"http://127.0.0.1:{server.server_address[1]}/"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
