"""Requests to a REST interface: with a token that is shown to nobody, retries, and patience for rate limits."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from envpack.publish.base import ANSWER_SECONDS
from envpack.runtime.errors import DestinationError, FetchError, UsageError
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.report import escape
from envpack.runtime.transport.http.connection import Link, explained
from envpack.runtime.transport.http.pool import RETRIES, backoff_seconds
from envpack.runtime.transport.http.url import Url, parse_url

MOST_WAIT = 900.0
"""Seconds to wait at most for the end of a rate limit; the longest of GitHub is an hour."""
_SECONDARY_WAIT = 60.0
"""Seconds after a limit for which the server states no time (https://docs.github.com/rest/using-the-rest-api)."""
_LARGEST = 64 << 20
_SMALL = 1 << 20
"""Bytes of a request's body that a server has stored at once."""
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_LONGEST_SAID = 200


class RefusedError(DestinationError):
    """The server refused a request; ``status`` is that of the response, ``said`` its explanation."""

    def __init__(self, message: str, status: int, said: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status, self.said = status, said


class UnansweredError(DestinationError):
    """The connection failed, or the server had a problem: the request may have been done or not."""


@dataclass(frozen=True)
class Answer:
    """A successful response: its headers, the names in lower case, and its body."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the value of the body.

        Raises:
            DestinationError: It is not JSON.
        """
        try:
            return json_value(self.body)
        except ValueError:
            raise DestinationError("the server sent something else than JSON", hint="Check the URL.") from None


@dataclass(frozen=True)
class Body:
    """The body of a request: its size in bytes, what returns its pieces, and its media type."""

    size: int
    pieces: Callable[[], Iterable[bytes]]
    kind: str = "application/octet-stream"

    @classmethod
    def of(cls, value: object) -> Body:
        """Return a body of JSON."""
        data = json.dumps(value).encode()
        return cls(len(data), lambda: [data], "application/json")


class Api:
    """A REST interface."""

    def __init__(self, base: str, headers: Mapping[str, str], hints: Mapping[int, str], *, insecure: bool) -> None:
        """Take the URL, and the headers of all requests.

        Args:
            base: The URL that paths are appended to.
            headers: The headers, with the token. They are sent to this server only.
            hints: What to do about the statuses of refused requests.
            insecure: Allow http without TLS to other hosts than this one.

        Raises:
            UsageError: The URL is not valid, or not allowed.
        """
        if not base.startswith(("http://", "https://")):
            raise UsageError("the URL of the server is not valid", hint="Write https://host/path.")
        self.base = base.rstrip("/")
        self._origin = self._url(self.base)
        if self._origin.scheme == "http" and not insecure and not _is_this_host(self._origin.host):
            raise UsageError(
                f"{self._origin} has no TLS: others in the network could read the token",
                hint="Use https, or allow it with --insecure.",
            )
        self._headers, self._hints = dict(headers), hints

    def ask(
        self, method: str, where: str, body: Body | None = None, *, accept: str = "", repeat: bool = True
    ) -> Answer:
        """Send a request, and again after a failure that may be gone the next time.

        Args:
            method: The method.
            where: The path after the base, or a whole URL on a server that is trusted with the token.
            body: The body.
            accept: The media type that is asked for, other than that of the headers.
            repeat: False for a request that must not be done twice: it is sent again only if it was not done.

        Raises:
            FileNotFoundError: The server has no such thing (status 404), in answer to GET.
            RefusedError: The server refused it.
            UnansweredError: It is not known whether the request was done.
            DestinationError: The response is not valid, or too large.
        """
        url = self._url(where if "://" in where else self.base + where)
        failed = 0
        while True:
            try:
                return self._once(method, url, body, accept)
            except _LaterError as later:
                failed += 1
                problem, wait, done = later.problem, later.wait, later.done
                if failed > RETRIES:
                    problem.message += f" ({failed} times)"
                if failed > RETRIES or (not repeat and done) or wait > MOST_WAIT:
                    raise problem from None
            time.sleep(wait or backoff_seconds(failed))

    def _url(self, text: str) -> Url:
        return replace(parse_url(text), authorization="", remark="")

    def _once(self, method: str, url: Url, body: Body | None, accept: str) -> Answer:
        headers = {**self._headers, "Connection": "close"}
        if accept:
            headers["Accept"] = accept
        if body is not None:
            headers.update({"Content-Type": body.kind, "Content-Length": str(body.size)})
        elif method != "GET":
            headers["Content-Length"] = "0"
        patience = ANSWER_SECONDS if body is not None and body.size > _SMALL else None
        for _ in range(_MOST_REDIRECTS):
            try:
                link = Link(url)
                try:
                    pieces = body.pieces() if body is not None else None
                    response = link.request(method, url, headers, pieces, patience)
                    data = response.read(_LARGEST + 1)
                    if response.length:
                        raise ConnectionError("the connection was lost")
                finally:
                    link.close()
            except (OSError, HTTPException) as problem:
                if isinstance(problem, ssl.SSLCertVerificationError):
                    raise _of(explained(url, problem)) from None
                raise _LaterError(UnansweredError(explained(url, problem).message, hint=_NETWORK)) from None
            found = {name.lower(): value for name, value in response.getheaders()}
            if method != "GET" or response.status not in _REDIRECTS:
                return self._judged(method, url, response.status, found, data)
            try:
                onward = url.redirected(found.get("location", ""))
            except FetchError as problem:
                raise _of(problem) from None
            if onward.origin != url.origin:
                headers = {"Connection": "close"}
            url = onward
        raise DestinationError(f"{url}: too many redirects", hint="Check the URL.")

    def _judged(self, method: str, url: Url, status: int, headers: Mapping[str, str], data: bytes) -> Answer:
        if 200 <= status < 300:
            if len(data) > _LARGEST:
                raise DestinationError(f"{url}: the response has more than {_LARGEST:,} bytes")
            return Answer(headers, data)
        if status == 404 and method == "GET":
            raise FileNotFoundError(str(url))
        said = _said(data)
        message = f"{url}: the server responded {status}{f': {said}' if said else ''}"
        wait = _limit(status, headers, said)
        if wait is not None:
            hint = f"The rate limit ends in {wait / 60:.0f} minutes; run the command again then."
            raise _LaterError(RefusedError(message, status, said, hint=hint), wait, done=False)
        if status >= 500 or status == 408:
            stated = _seconds(headers.get("retry-after", ""))
            raise _LaterError(UnansweredError(message, hint="Run the command again later."), stated)
        raise RefusedError(message, status, said, hint=self._hints.get(status, ""))


_NETWORK = "Check the network of this host, and run the command again: it continues where it was interrupted."


class _LaterError(Exception):
    """A failure that may be gone later: after ``wait`` seconds, 0 for the usual ones."""

    def __init__(self, problem: DestinationError, wait: float = 0.0, *, done: bool = True) -> None:
        super().__init__(problem.message)
        self.problem, self.wait, self.done = problem, wait, done


def _limit(status: int, headers: Mapping[str, str], said: str) -> float | None:
    """Return the seconds until a rate limit ends; None for a response that is not about one."""
    if status not in (403, 429):
        return None
    wait = _seconds(headers.get("retry-after", ""))
    if wait:
        return wait
    if headers.get("x-ratelimit-remaining") == "0" or headers.get("ratelimit-remaining") == "0":
        reset = headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset") or ""
        return max(1.0, _seconds(reset) - time.time())
    return _SECONDARY_WAIT if status == 429 or "rate limit" in said.lower() else None


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 12 else 0.0


def _said(data: bytes) -> str:
    """Return what the body of a refusal says, short and printable."""
    try:
        found = json_value(data)
    except ValueError:
        return ""
    if not isinstance(found, dict):
        return ""
    said = [_text(found.get(key)) for key in ("message", "error", "error_description")]
    errors = found.get("errors")
    for error in errors[:5] if isinstance(errors, list) else []:
        said += [_text(error.get(key)) for key in ("field", "code", "message")] if isinstance(error, dict) else []
    return escape("; ".join(filter(None, said)))[:_LONGEST_SAID]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _of(problem: FetchError) -> DestinationError:
    return DestinationError(problem.message, hint=problem.hint)


def _is_this_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def same_security(base: str, url: str) -> bool:
    """Return whether an URL that a server names may get the token: not if it leads from https to http."""
    return urlsplit(url).scheme == "https" or urlsplit(base).scheme == urlsplit(url).scheme == "http"
