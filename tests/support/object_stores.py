"""An S3 server (moto's) in a process of its own, and a proxy before it that counts, delays, drops and kills."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import pytest

from support import forked
from support.command_line import Done
from support.servers import QuietServer

BUCKET = "bundles"

_MOTO = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass
class Request:
    """A request as it arrived: its method, its path with the query, and the bytes of its body."""

    method: str
    path: str
    size: int = 0

    @property
    def name(self) -> str:
        """Return the last name in the path."""
        return unquote(urlsplit(self.path).path).rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.method} {re.sub('=[^&]*', '', unquote(self.path))}"


@dataclass
class Store:
    """A bucket.

    ``before`` and ``after`` are called with each request, before it is passed on and before its response is; the
    connection is cut where they return False.
    """

    server: int
    url: str = ""
    before: Callable[[Request], bool] = lambda request: True
    after: Callable[[Request], bool] = lambda request: True
    status: Callable[[Request], int] = lambda request: 0
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment variables of a publisher."""
        keys = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "the-secret", "AWS_REGION": "us-east-1"}
        return {**keys, "AWS_ENDPOINT_URL": self.url}

    def ask(self, method: str, path: str) -> bytes:
        """Send a request to the server itself, which takes every signature for valid."""
        connection = HTTPConnection("127.0.0.1", self.server)
        connection.request(
            method,
            quote(path, safe="/?=&-"),
            headers={"Authorization": "AWS4-HMAC-SHA256 Credential=user/20261127/s3"},
        )
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.status >= 400:
            raise LookupError(path)
        return data

    def read(self, name: str) -> bytes:
        return self.ask("GET", f"/{BUCKET}/{name}")

    def names(self) -> set[str]:
        """Return the names of all objects."""
        return {element.text or "" for element in self._found(f"/{BUCKET}?list-type=2", "Key")}

    def uploads(self) -> set[str]:
        """Return the names of uploads in parts that are neither complete nor aborted."""
        return {element.text or "" for element in self._found(f"/{BUCKET}?uploads", "Key")}

    def _found(self, path: str, tag: str) -> list[ElementTree.Element]:
        elements = ElementTree.fromstring(self.ask("GET", path)).iter()
        return [element for element in elements if element.tag.endswith("}" + tag)]

    def forget(self) -> None:
        """Forget requests, and what was to become of them."""
        self.before = self.after = lambda request: True
        self.status = lambda request: 0
        self.requests.clear()
        self.sent = 0

    def reset(self) -> None:
        """Forget requests, and delete all objects and unfinished uploads."""
        self.forget()
        for name in self.names():
            self.ask("DELETE", f"/{BUCKET}/{name}")
        for upload in self._found(f"/{BUCKET}?uploads", "Upload"):
            texts = {element.tag.rpartition("}")[2]: element.text for element in upload}
            self.ask("DELETE", f"/{BUCKET}/{texts['Key']}?uploadId={texts['UploadId']}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def _pass(self) -> None:
        store = self.store
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client has given up
            self._cut()
            return
        request = Request(self.command, self.path, len(body))
        with store.lock:
            store.requests.append(request)
        if not store.before(request):
            self._cut()
            return
        if status := store.status(request):
            self._answer(status, b"<Error><Code>Refused</Code></Error>", {})
            return
        connection = HTTPConnection("127.0.0.1", store.server)
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if not store.after(request):
            self._cut()
            return
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(response.status, data, dict(response.getheaders()), length)

    def _answer(self, status: int, data: bytes, headers: dict[str, str], length: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        with self.store.lock:
            self.store.sent += len(data)
        self.wfile.write(data)

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(2)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def object_store(**environ: str) -> Iterator[Store]:
    """Start a server with an empty bucket, and the proxy; skip the test where a package is missing.

    ``environ``: further environment variables of the server.
    """
    for package in ("moto", "flask", "obstore"):
        pytest.importorskip(package)
    command = [sys.executable, "-c", _MOTO]
    with subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as moto:
        try:
            assert moto.stdout is not None
            store = Store(int(moto.stdout.readline()))
            store.ask("PUT", f"/{BUCKET}")
            proxy = QuietServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
            store.url = f"http://127.0.0.1:{proxy.server_address[1]}"
            thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield store
            finally:
                proxy.shutdown()
                thread.join()
                proxy.server_close()
        finally:
            moto.kill()


def _environ(environ: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AZURE_"))}
    return {**inherited, **environ}


def start(*words: object, environ: dict[str, str], patch: str = "") -> subprocess.Popen[str]:
    """Start a command of envpack in a process of its own.

    The threads of obstore must not stay in the process of the tests, which may fork. ``patch``: code to run first.
    """
    code = f"{patch}\nfrom envpack.cli.app import run\nrun()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        env=_environ(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: object, environ: dict[str, str], patch: str = "") -> Done:
    """Run a command of envpack in a process of its own."""
    if not patch:
        done = forked.envpack(*words, env=_environ(environ))
        return Done(done.returncode, done.stdout, done.stderr)
    with start(*words, environ=environ, patch=patch) as process:
        out, err = process.communicate()
    return Done(process.returncode, out, err)
