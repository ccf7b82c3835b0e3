"""Client for ranges of one file on a server: it follows redirects, reuses connections and retries lost requests.

A change of the file after the first response is detected by its ETag, date or size.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple

from envpack.runtime.errors import EnvpackError, FetchError
from envpack.runtime.transport.http.connection import Headers, Link, explained
from envpack.runtime.transport.http.pace import TooSlowError
from envpack.runtime.transport.http.url import Url

RETRIES = 5
BACKOFF_SECONDS = 0.25
"""Seconds before the first retry; each further one waits twice as long. Five retries without one byte between them
take 8 s."""
_MAX_WAIT = 30.0
_PROGRESS = 64 << 10
"""Bytes received in one response after which the count of retries starts again."""
_MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
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


class Reply:
    """A response with an unread body; ``size`` is its length in bytes, None where it is not stated."""

    def __init__(self, client: Client, link: Link, response: HTTPResponse) -> None:
        self._client, self.link, self.response = client, link, response
        self.status = response.status
        self.size: int | None = response.length
        self._left = self.size

    def header(self, name: str) -> str:
        return self.response.getheader(name) or ""

    def readinto(self, view: memoryview) -> int:
        """Read as `ByteStream.readinto` does.

        Raises:
            FetchError: the connection was lost; a stream can't be resumed.
        """
        try:
            got = self.response.readinto(view)
        except (OSError, HTTPException) as problem:
            raise explained(self._client.url, problem) from None
        if self._left is not None:
            self._left -= got
            if not got and self._left and len(view):
                raise FetchError(
                    f"{self._client.url}: the connection was lost with {self._left:,} bytes left to read",
                    hint="Run the command again. The server can't send a part of a file, so it can't be resumed.",
                )
        return got

    def cancel(self) -> None:
        self._client.cancel()

    def close(self) -> None:
        self._client.close()


class Client:
    """A client that requests ranges of the file at ``url``; it may be used from several threads."""

    def __init__(self, url: Url) -> None:
        self.url = url
        self._now = url  # where redirects led to
        self._known: _Identity | None = None
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._cancelled = threading.Event()

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
        reply = self._ask(0, size, _Tries(self))
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
        got, tries = 0, _Tries(self)
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
                    self._release(reply, whole=False)
                    raise explained(self.url, lost) from None
            self._release(reply, whole=problem is None and reply.response.length == 0)
            reply = None
            if got - before >= _PROGRESS:
                tries.renew()
            if got < len(view):
                tries.again(explained(self.url, problem or ConnectionError("the connection was lost")))

    def _ask(self, start: int, size: int, tries: _Tries) -> Reply | None:
        """Return a response of status 200 (only to the first request) or 206; None for an empty file."""
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
                    self._release(reply, whole=False)
                    raise
                return reply
            self._release(reply, whole=False)
            if reply.status == 416 and self._known is None:
                return None
            if reply.status in (200, 416):
                raise self._changed()
            if reply.status in _EXPIRED and self._now != self.url:
                with self._lock:
                    self._now = self.url
                tries.again(self._refused(reply))
            elif reply.status in _BUSY:
                tries.again(self._refused(reply), reply.header("Retry-After"))
            else:
                raise self._refused(reply)

    def _hopeless(self, problem: Exception) -> bool:
        """Return whether the first request failed in a way that no retry can repair."""
        unreachable = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)
        return self._known is None and (isinstance(problem, unreachable) or "Tunnel" in str(problem))

    def _get(self, headers: Headers) -> Reply:
        url = self._now
        for _ in range(_MAX_REDIRECTS):
            link = self._link(url)
            try:
                reply = Reply(self, link, link.get(url, headers))
            except (OSError, HTTPException):
                fresh = not link.used
                self._drop(link)
                if fresh or self._cancelled.is_set():
                    raise
                continue  # a server may close an idle connection at any time
            except BaseException:
                self._drop(link)
                raise
            if reply.status not in _REDIRECTS:
                with self._lock:
                    self._now = url
                return reply
            self._release(reply, whole=False)
            url = url.redirected(reply.header("Location"))
        raise FetchError(f"{self.url}: too many redirects", hint="Open the URL in a browser.")

    def _check(self, reply: Reply, start: int, size: int) -> None:
        """Check that a response has the requested range of the same file, which the first response identifies."""
        etag, modified = reply.header("ETag"), reply.header("Last-Modified")
        if reply.status == 200:
            return
        found = _RANGE.match(reply.header("Content-Range"))
        first, last, total = map(int, found.groups()) if found else (0, 0, 0)
        if not found or first != start or not first <= last < min(start + size, total):
            raise FetchError(
                f"{self.url}: the server sent another range than requested: {reply.header('Content-Range')!r}",
                hint="Download the bundle with another program, and deploy the file.",
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
        hint = _HINTS.get(status, _LATER if status in _BUSY else "Look at the URL in a browser.")
        if status == 401 and self.url.remark:
            hint = f"{hint} {self.url.remark}"
        return FetchError(
            f"{self._now}: the server responded {status} {reply.response.reason}".rstrip(), hint=hint
        )

    # --- connections ---

    def _link(self, url: Url) -> Link:
        with self._lock:
            idle = next((link for link in self._idle if link.origin == url.origin), None)
            if idle is not None:
                self._idle.remove(idle)
        link = idle or Link(url)
        with self._lock:
            self._links.add(link)
        if self._cancelled.is_set():
            self._drop(link)
            raise ConnectionAbortedError("reading was stopped")
        return link

    def _release(self, reply: Reply, *, whole: bool) -> None:
        """Keep a connection for reuse if its response was read to the end, else close it."""
        if whole and not reply.response.will_close and not self._cancelled.is_set():
            with self._lock:
                self._idle.append(reply.link)
        else:
            reply.response.close()
            self._drop(reply.link)

    def _drop(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)
        link.close()

    def wait(self, seconds: float) -> None:
        """Wait, and raise ConnectionAbortedError at once when reading is cancelled."""
        if self._cancelled.wait(seconds):
            raise ConnectionAbortedError("reading was stopped")

    def cancel(self) -> None:
        """Cancel reading: every thread that waits for a response, or for the next retry, gets an error."""
        self._cancelled.set()
        with self._lock:
            for link in self._links:
                link.cancel()

    def close(self) -> None:
        with self._lock:
            links = list(self._links)
            self._links.clear()
            self._idle.clear()
        for link in links:
            link.close()


class _Tries:
    """A count of failed attempts in a row, which limits the retries."""

    def __init__(self, client: Client) -> None:
        self._client, self._failed = client, 0

    def renew(self) -> None:
        self._failed = 0

    def again(self, error: EnvpackError, wait: str = "") -> None:
        """Wait before the next attempt; raise ``error`` when all retries are used.

        ``wait`` is the server's ``Retry-After`` header in seconds; a date in it is ignored.
        """
        self._failed += 1
        if self._failed > RETRIES:
            error.message += f" ({self._failed} times)"
            raise error
        seconds = BACKOFF_SECONDS * 2 ** (self._failed - 1)
        with suppress(ValueError):
            seconds = max(seconds, float(wait))
        self._client.wait(min(seconds, _MAX_WAIT))
