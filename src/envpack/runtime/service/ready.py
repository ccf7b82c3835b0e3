"""Whether a command that was started is ready: its URL answers, or its port accepts connections."""

from __future__ import annotations

import http.client
import socket
import subprocess
import time
from contextlib import closing
from urllib.parse import urlsplit

from envpack.runtime.format.services import Service

_INTERVAL = 0.1
_ANSWER = 2.0
"""Seconds between two requests, and that one may take."""


def wait_ready(process: subprocess.Popen[bytes], service: Service, seconds: float) -> bool:
    """Wait until a command is ready; return False when it has ended before, or has not become ready in time.

    Args:
        process: The process of the command.
        service: Its port and ready URL.
        seconds: The time to wait.
    """
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if is_ready(service):
            return process.poll() is None
        if time.monotonic() >= deadline:
            return False
        time.sleep(_INTERVAL)
    return False


def is_ready(service: Service) -> bool:
    """Return whether the ready URL answers with 200, or where there is none, the port accepts a connection."""
    if service.ready:
        return _answers(service.ready_url)
    return any(_accepts(address, service.port or 0) for address in ("127.0.0.1", "::1"))


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_ANSWER)
    with closing(connection):
        try:
            connection.request("GET", parts._replace(scheme="", netloc="", fragment="").geturl() or "/")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False


def _accepts(address: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((address, port), timeout=_ANSWER)):
            return True
    except OSError:
        return False
