"""A real registry on the loopback, Debian's docker-registry, and a proxy before it that counts and misbehaves."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

UNPACKED = Path(__file__).resolve().parents[2] / "build" / "registry"
"""Where ``scripts/get_registry.sh`` unpacks Debian's packages."""
USER, PASSWORD, IDENTITY = "ann", "swordfish", "an-identity-token"
_HTPASSWD = "ann:$2b$04$rPz6.eR0Giu1hVGvYx9Z8uk6ZvpqjrD9ZEehvqutY527sxNzGQai6\n"  # bcrypt
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_HOP = {"connection", "transfer-encoding", "keep-alive"}
_PIECE = 64 << 10


def program(name: str) -> list[str]:
    """Return the command of a program, installed or unpacked; skip the test where it is missing."""
    if shutil.which(name):
        return [name]
    path = UNPACKED / "usr" / "bin" / name
    if not path.exists():
        pytest.skip(f"{name} is not installed")
    folders = (folder for lib in ("lib", "usr/lib") for folder in (UNPACKED / lib).glob("*-linux-gnu*"))
    libraries = ":".join(map(str, folders))
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(path)]


@contextmanager
def docker_registry(folder: Path, *, password: bool = False, **settings: Any) -> Iterator[str]:
    """Run a registry that stores below a folder; yield its host and port."""
    command = program("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0"},
        **settings,
    }
    if password:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "serve", str(folder / "config.yml")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
        assert process.stdout is not None
        try:
            port = ""
            for line in process.stdout:
                log.write(line)
                found = _LISTENING.search(line.decode())
                if found:
                    port = found[1]
                    break
            assert port, (folder / "log").read_text()
            reader = threading.Thread(target=shutil.copyfileobj, args=(process.stdout, log), daemon=True)
            reader.start()
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
            with suppress(UnboundLocalError):
                reader.join()
            process.stdout.close()


@dataclass
class Proxy:
    """A server before a registry.

    Attributes:
        behind: The registry.
        before: Called with the handler first; it has answered if it returns True.
        tokens: Each token is good for so many requests; 0: no token is needed.
        alter: Changes the body of a response; called with the path.
        sent, received: Bytes of blobs to the registry, and from it.
        requests: Methods and paths.
        logins: The ``Authorization`` headers that the token service got.
    """

    behind: str
    before: Callable[[Any], bool] | None = None
    tokens: int = 0
    alter: Callable[[str, bytes], bytes] | None = None
    sent: int = 0
    received: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    host: str = ""

    def reset(self) -> None:
        self.sent = self.received = 0
        self.requests.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy
    more: dict[str, str]
    """Further headers of the response that is passed back."""
    body: bytes | None

    def handle_any(self) -> None:
        proxy = self.proxy
        self.more, self.body = {}, None
        with proxy.lock:
            proxy.requests.append((self.command, self.path))
        if proxy.before is not None and proxy.before(self):
            return
        if self.path.startswith("/token"):
            self.give_token()
            return
        if proxy.tokens and not self.is_allowed():
            return
        self.forward()

    def give_token(self) -> None:
        proxy = self.proxy
        login = self.headers.get("Authorization", "")
        query = urlsplit(self.path).query if self.command == "GET" else self.read_body().decode()
        form = parse_qs(query)
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        good = login in ("", known) if self.command == "GET" else form["refresh_token"] == [IDENTITY]
        with proxy.lock:
            proxy.logins.append(login)
            proxy.scopes += form.get("scope", [])
            token = f"token-{len(proxy.left)}"
            proxy.left[token] = proxy.tokens
        key = "token" if self.command == "GET" else "access_token"
        if good:
            self.answer(200, json.dumps({key: token, "expires_in": 300}).encode())
        else:
            self.answer(401, b"{}")

    def is_allowed(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with self.proxy.lock:
            left = self.proxy.left.get(token, 0)
            self.proxy.left[token] = left - 1
        if left <= 0:
            realm = f'Bearer realm="http://{self.proxy.host}/token",service="tests",scope="none"'
            self.answer(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}', {"WWW-Authenticate": realm})
            return False
        return True

    def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.read_body()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def read_body(self) -> bytes:
        """Return the body of the request; it is read once."""
        if self.body is None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self.body

    def drop(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def forward(self, cut: int | None = None) -> None:
        """Pass the request on, and its response back; ``cut``: only so many bytes of that."""
        proxy = self.proxy
        body = self.read_body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        if proxy.tokens:
            headers.pop("Authorization", None)
        onward = http.client.HTTPConnection(proxy.behind)
        try:
            onward.request(self.command, self.path, body or None, headers)
            response = onward.getresponse()
            data = response.read()
        finally:
            onward.close()
        if proxy.alter is not None:
            data = proxy.alter(self.path, data)
        with proxy.lock:
            if "/blobs/" in self.path:
                proxy.sent += len(body)
                proxy.received += len(data)
        self.send_response(response.status)
        for name, value in (*response.getheaders(), *self.more.items()):
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if response.getheader("Content-Length") is None:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(data[:cut])
        if cut is not None and cut < len(data):
            self.drop()

    def log_message(self, format: str, *args: object) -> None:
        pass


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH"):
    setattr(_Handler, f"do_{_method}", _Handler.handle_any)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that closes its connection is part of the tests


@contextmanager
def proxied(behind: str) -> Iterator[Proxy]:
    """Run a proxy before a registry."""
    proxy = Proxy(behind)
    handler = type("Handler", (_Handler,), {"proxy": proxy})
    server = _Server(("127.0.0.1", 0), handler)
    proxy.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def docker_login(folder: Path, host: str, password: str = PASSWORD) -> Path:
    """Write docker's configuration with credentials for a registry; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return folder
