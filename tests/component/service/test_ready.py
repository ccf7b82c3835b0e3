"""When a service counts as ready: its URL answers 200, or its port accepts a connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from envpack.runtime.format.services import Service
from envpack.runtime.service.ready import is_ready


@contextmanager
def server(*statuses: int) -> Iterator[tuple[int, list[str]]]:
    """Answer requests at 127.0.0.1 with these statuses; yield the port, and the paths that are asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(statuses[len(paths) - 1])
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield running.server_port, paths
        finally:
            running.shutdown()
            thread.join()


def test_only_status_200_is_ready() -> None:
    with server(503, 302, 404, 200) as (port, paths):
        service = Service(port, "/health?full=1")
        assert [is_ready(service) for _ in range(4)] == [False, False, False, True]
        assert paths == ["/health?full=1"] * 4
    assert not is_ready(service)


def test_a_url_may_name_another_port() -> None:
    with server(200, 200) as (port, paths):
        assert is_ready(Service(1, f"http://127.0.0.1:{port}/ready"))
        assert is_ready(Service(ready=f"http://localhost:{port}"))
        assert paths == ["/ready", "/"]


def test_without_a_url_a_connection_is_enough() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert not is_ready(Service(port))
        listening.listen()
        assert is_ready(Service(port))


def test_an_answer_that_is_no_http_is_not_ready() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = Thread(target=answer)
        thread.start()
        assert not is_ready(Service(listening.getsockname()[1], "/"))
        thread.join()
