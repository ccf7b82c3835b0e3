"""Responses with a minimum rate: a server that sends single bytes for ever is given up."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

LEAST_RATE = 1 << 10
"""Bytes per second below which a server is too slow: with them, a bundle of 1 GB takes 12 days."""

PERIOD_SECONDS = 60.0
"""Seconds of waiting for a server over which its rate is measured."""


class TooSlowError(TimeoutError):
    """A server sends less than `LEAST_RATE`; a retry would be as slow."""


MOST_CONTINUES = 20
"""Interim responses (100 Continue: RFC 9110, 15.2) before the final one, none of which was asked for. In newer
patch releases http.client gives up after 100, with an error after which the request would be repeated.
"""


class PacedResponse(HTTPResponse):
    """A response, head and body, that raises TooSlowError where the server is too slow, or never comes to it."""

    def __init__(self, sock: socket.socket, *args: Any, **settings: Any) -> None:
        super().__init__(sock, *args, **settings)
        self.fp = io.BufferedReader(_Paced(self.fp.detach()))
        self._heads = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._heads += 1
        if self._heads > MOST_CONTINUES:
            raise TooSlowError("the server sends '100 Continue' without end")
        found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return found


class _Paced(io.RawIOBase):
    """A raw stream with a minimum rate. Only the time in which it is waited for counts, after its first bytes."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._waited: float | None = None
        self._got = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        begun = time.monotonic()
        got: int | None = self._raw.readinto(buffer)
        if self._waited is None:
            self._waited = 0.0
            return got
        self._waited += time.monotonic() - begun
        self._got += got or 0
        if self._waited >= PERIOD_SECONDS:
            if got and self._got < LEAST_RATE * self._waited:
                raise TooSlowError(f"the server sends fewer than {LEAST_RATE:,} bytes a second")
            self._waited, self._got = 0.0, 0
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()
