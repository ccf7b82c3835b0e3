"""Client for ranges of one file on a server: it retries lost requests.

A change of the file after the first response is detected by its ETag, date or size.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from http.client import HTTPException
from typing import Callable, NamedTuple

from envpack.runtime.errors import FetchError
from envpack.runtime.transport.http.connection import Headers, explained
from envpack.runtime.transport.http.pace import TooSlowError
from envpack.runtime.transport.http.pool import BUSY, RENEWALS, Pool, Reply, Tries
from envpack.runtime.transport.http.url import Url

_PROGRESS = 64 << 10
"""Bytes received in one response after which the count of retries starts again."""
_EXPIRED = {400, 401, 403, 404, 410}
"""Status codes of object storage for an URL that a redirect led to and that was valid for some minutes only."""

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})$")

_HINTS = {
    401: "Give a user and a password: in ~/.netrc, or as https://user:password@host/...",
    403: "Ask for access. If it is a presigned URL, it may have expired: make a new one.",
    404: "Compare the URL with the one where the bundle was published.",
    407: "Give the password of the proxy: http_proxy=http://user:password@host:port",
    410: "Compare the URL with the one where the bundle was published.",
}
_LATER = "Try again later."


class _Identity(NamedTuple):
    """The size in bytes, ETag and modification date that identify a file; "" for a missing header."""

    total: int
    etag: str
    modified: str

    def same(self, other: _Identity) -> bool:
        if self.total != other.total:
            return False
        if self.etag and other.etag:
            return self.etag.replace("W/", "") == other.etag.replace("W/", "")
        return self.modified == other.modified


class Client:
    """A client that requests ranges of the file at ``url``; it may be used from several threads."""

    def __init__(
        self, url: Url, pool: Pool, size: int | None = None, renewed: Callable[[], Url] | None = None
    ) -> None:
        """Take the URL of the file, and how to read it.

        Args:
            url: the URL.
            pool: the connections to use.
            size: the size in bytes that the file must have, if it is known.
            renewed: returns an URL for the same file when this one is valid no longer; None if it always is.
        """
        self.url = url
        self._pool, self._size, self._renewed = pool, size, renewed
        self._now = url  # where redirects led to
        self._known: _Identity | None = None
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """Return the size of the file in bytes; 0 before the first response with a range."""
        return self._known.total if self._known is not None else 0

    def start(self, size: int) -> tuple[Reply | None, bytes]:
        """Request the first ``size`` bytes of the file.

        A HEAD request is never sent: presigned URLs are valid for GET only.

        Returns:
            None and the bytes; or, from a server that does not support ranges, a `Reply` with the whole file and
            b"".

        Raises:
            FetchError: the server does not give the file.
        """
        reply = self._ask(0, size, Tries(self._pool))
        if reply is None:
            return None, b""
        if reply.status == 200:
            return reply, b""
        data = bytearray(min(size, self.total))
        with memoryview(data) as view:
            self._fill(0, view, reply)
        return None, bytes(data)

    def fill(self, start: int, view: memoryview) -> None:
        """Fill ``view`` with the bytes of the file from offset ``start`` on; resume where the connection is lost.

        The range must lie inside the file.

        Raises:
            FetchError: the server does not give the bytes, or the file has changed.
        """
        self._fill(start, view, None)

    def _fill(self, start: int, view: memoryview, reply: Reply | None) -> None:
        got, tries = 0, Tries(self._pool)
        while got < len(view):
            reply = reply or self._ask(start + got, len(view) - got, tries)
            if reply is None:
                raise self._changed()
            before, problem = got, None
            try:
                while got < len(view):
                    more = reply.response.readinto(view[got:])
                    if not more:
                        break
                    got += more
            except (OSError, HTTPException) as lost:
                problem = lost
                if isinstance(lost, TooSlowError):
                    self._pool.release(reply, whole=False)
                    raise explained(self.url, lost) from None
            self._pool.release(reply, whole=problem is None and reply.response.length == 0)
            reply = None
            if got - before >= _PROGRESS:
                tries.renew()
            if got < len(view):
                tries.again(explained(self.url, problem or ConnectionError("the connection was lost")))

    def _ask(self, start: int, size: int, tries: Tries) -> Reply | None:
        """Return a response of status 200 (only to the first request) or 206; None for an empty file."""
        renewed = 0
        while True:
            headers = {"Range": f"bytes={start}-{start + size - 1}"}
            if self._known is not None and self._known.etag.startswith('"'):
                headers["If-Range"] = self._known.etag
            try:
                reply = self._get(headers)
            except (OSError, HTTPException) as problem:
                error = explained(self._now, problem)
                if isinstance(problem, (ssl.SSLCertVerificationError, TooSlowError)) or self._hopeless(problem):
                    raise error from None
                tries.again(error)
                continue
            good = reply.status == 206 or (reply.status == 200 and self._known is None)
            if good:
                try:
                    self._check(reply, start, size)
                except BaseException:
                    self._pool.release(reply, whole=False)
                    raise
                return reply
            if reply.status == 401 and renewed < RENEWALS and self._pool.renew(reply):
                self._pool.release(reply, whole=False)
                renewed += 1
                continue
            self._pool.release(reply, whole=False)
            if reply.status == 416 and self._known is None:
                return None
            if reply.status in (200, 416):
                raise self._changed()
            if reply.status in _EXPIRED and self._restart():
                tries.again(self._refused(reply))
            elif reply.status in BUSY:
                tries.again(self._refused(reply), reply.header("Retry-After"))
            else:
                raise self._refused(reply)

    def _restart(self) -> bool:
        """Take the first URL again, where a redirect led to another, or a new one; return whether there is one."""
        with self._lock:
            moved = self._now != self.url
            if self._renewed is not None and self._known is not None:
                self.url = self._renewed()
                moved = True
            self._now = self.url
        return moved

    def _hopeless(self, problem: Exception) -> bool:
        """Return whether the first request failed in a way that no retry can repair."""
        unreachable = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)
        return self._known is None and (isinstance(problem, unreachable) or "Tunnel" in str(problem))

    def _get(self, headers: Headers) -> Reply:
        reply = self._pool.get(self._now, headers)
        with self._lock:
            self._now = reply.url
        return reply

    def _check(self, reply: Reply, start: int, size: int) -> None:
        """Check that a response has the requested range of the same file, which the first response identifies."""
        etag, modified = reply.header("ETag"), reply.header("Last-Modified")
        if reply.status == 200:
            if self._size is not None and (start, size, reply.size) != (0, self._size, self._size):
                raise FetchError(
                    f"{self.url}: the server can't send a part of a file", hint="Download it with another program."
                )
            return
        found = _RANGE.match(reply.header("Content-Range"))
        first, last, total = map(int, found.groups()) if found else (0, 0, 0)
        if not found or first != start or not first <= last < min(start + size, total):
            raise FetchError(
                f"{self.url}: the server sent another range than requested: {reply.header('Content-Range')!r}",
                hint="Download the bundle with another program, and deploy the file.",
            )
        if self._size not in (None, total):
            raise FetchError(
                f"{self.url}: it has {total:,} bytes, not {self._size:,}",
                hint="Compare it with what was published.",
            )
        identity = _Identity(total, etag, modified)
        with self._lock:
            known = self._known = self._known or identity
        if not identity.same(known):
            raise self._changed()

    def _changed(self) -> FetchError:
        return FetchError(
            f"{self.url}: the file was replaced during the download",
            hint="Run the command again. Data of the two files was not mixed.",
        )

    def _refused(self, reply: Reply) -> FetchError:
        status = reply.status
        hint = _HINTS.get(status, _LATER if status in BUSY else "Look at the URL in a browser.")
        if status == 401 and self.url.remark:
            hint = f"{hint} {self.url.remark}"
        return FetchError(
            f"{self._now}: the server responded {status} {reply.response.reason}".rstrip(), hint=hint
        )

    def cancel(self) -> None:
        self._pool.cancel()

    def close(self) -> None:
        self._pool.close()
