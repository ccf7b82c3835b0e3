"""Connections to servers, reused for requests that may come from several threads; redirects are followed."""

from __future__ import annotations

import threading
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import Callable, Iterable, Protocol

from envpack.runtime.errors import EnvpackError, FetchError
from envpack.runtime.transport.http.connection import Headers, Link, explained
from envpack.runtime.transport.http.url import Url

RETRIES = 5
BACKOFF_SECONDS = 0.25
"""Seconds before the first retry; each further one waits twice as long. Five retries without one byte between them
take 8 s."""
_MAX_WAIT = 30.0
_MAX_REDIRECTS = 10
_REDIRECTS = {301, 302, 303, 307, 308}
RENEWALS = 3
"""Most new credentials for one request: a token that another thread got may have expired before its use here."""

BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Status codes of a server that may answer later."""


def backoff_seconds(failed: int) -> float:
    """Return the seconds to wait after so many failures in a row."""
    return BACKOFF_SECONDS * 2.0 ** (failed - 1)


Body = Callable[[], Iterable[bytes]]
"""A function that returns the body of a request, from its beginning at each call."""


class Reply:
    """A response with an unread body; ``size`` is its length in bytes, None where it is not stated.

    Attributes:
        url: The URL that redirects led to.
    """

    def __init__(self, pool: Pool, link: Link, url: Url, response: HTTPResponse) -> None:
        self._pool, self.link, self.url, self.response = pool, link, url, response
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
            raise explained(self.url, problem) from None
        if self._left is not None:
            self._left -= got
            if not got and self._left and len(view):
                raise FetchError(
                    f"{self.url}: the connection was lost with {self._left:,} bytes left to read",
                    hint="Run the command again. The server can't send a part of a file, so it can't be resumed.",
                )
        return got

    def cancel(self) -> None:
        self._pool.cancel()

    def close(self) -> None:
        self._pool.close()


class Authority(Protocol):
    """Credentials that requests of a pool carry."""

    def headers(self, url: Url) -> Headers:
        """Return the headers with credentials for a request to ``url``; none for other servers."""
        ...

    def renew(self, reply: Reply) -> bool:
        """Get new credentials after a response of status 401; return whether to send the request again."""
        ...


class Pool:
    """Open connections, at most one request at a time on each."""

    def __init__(self, authority: Authority | None = None) -> None:
        self._authority = authority
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._cancelled = threading.Event()

    def get(self, url: Url, headers: Headers) -> Reply:
        """Request an URL and follow redirects; see `request`."""
        return self.request("GET", url, headers)

    def request(
        self, method: str, url: Url, headers: Headers, body: Body | None = None, patience: float | None = None
    ) -> Reply:
        """Send a request, and follow the redirects of one without a body.

        Args:
            method: the method.
            url: the URL.
            headers: further headers; with a body of more than one piece, ``Content-Length``.
            body: the body.
            patience: seconds that the server may take to answer, see `Link.request`.

        Raises:
            FetchError: a redirect is not valid, or there are too many.
            OSError, HTTPException: the connection failed or was cancelled.
        """
        first = url
        for _ in range(_MAX_REDIRECTS):
            link = self._link(url)
            more = self._authority.headers(url) if self._authority is not None else {}
            try:
                reply = Reply(
                    self, link, url, link.request(method, url, {**headers, **more}, body and body(), patience)
                )
            except (OSError, HTTPException):
                fresh = not link.used
                self._drop(link)
                if fresh or body is not None or self._cancelled.is_set():
                    raise
                continue  # a server may close an idle connection at any time
            except BaseException:
                self._drop(link)
                raise
            if reply.status not in _REDIRECTS or body is not None:
                return reply
            self.release(reply, whole=False)
            url = url.redirected(reply.header("Location"))
        raise FetchError(f"{first}: too many redirects", hint="Open the URL in a browser.")

    def renew(self, reply: Reply) -> bool:
        """Get new credentials after a response of status 401; see `Authority.renew`."""
        return self._authority is not None and self._authority.renew(reply)

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

    def release(self, reply: Reply, *, whole: bool) -> None:
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


class Tries:
    """A count of failed attempts in a row, which limits the retries."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._failed = pool, 0

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
        seconds = backoff_seconds(self._failed)
        with suppress(ValueError):
            seconds = max(seconds, float(wait))
        self._pool.wait(min(seconds, _MAX_WAIT))
