"""A server that sends byte after byte, for ever: in its head, in a range, in a file as a whole."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from envpack.runtime.errors import FetchError
from envpack.runtime.transport.http import pace
from envpack.runtime.transport.open import open_source

OK = b"HTTP/1.1 200 x\r\n"
RANGE = b"HTTP/1.1 206 x\r\nContent-Length: 65536\r\nContent-Range: bytes 0-65535/900000\r\n\r\n"


@contextmanager
def dripping(start: bytes) -> Iterator[str]:
    """A server that answers with ``start``, and then a byte each 20 ms."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        with suppress(OSError):
            while not done.is_set():
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(start)
                    while not done.wait(0.02):
                        connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/b.tar.gz"
    finally:
        done.set()
        with suppress(OSError):
            socket.create_connection(listener.getsockname()).close()
        thread.join()
        listener.close()


def test_a_server_that_only_ever_continues_is_given_up() -> None:
    assert getattr(http.client, "_MAXINTERIMRESPONSES", 100) > pace.MOST_CONTINUES
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:  # another program of this machine may try the port first
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65536)
                    while True:
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with listener, pytest.raises(FetchError, match="'100 Continue' without end"):
        try:
            open_source(f"http://127.0.0.1:{listener.getsockname()[1]}/b.tar.gz")
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends the waiting for a further connection
    thread.join()


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 x\r\nX-Long: ",
        RANGE,
        b"HTTP/1.1 200 x\r\nContent-Length: 9000000\r\n\r\n",
        b"HTTP/1.1 200 x\r\n\r\n",
    ],
)
def test_a_server_that_drips_is_given_up(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PERIOD_SECONDS", 0.3)
    with dripping(start) as url, pytest.raises(FetchError, match="fewer than 1,024 bytes a second"):
        source = open_source(url)
        try:
            source.read(0, 9_000_000)
        finally:
            source.close()
