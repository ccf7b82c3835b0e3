"""URLs and the credentials that belong to them; the printed form of an URL never holds a secret."""

from __future__ import annotations

import base64
import netrc
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from envpack.runtime.errors import FetchError, UsageError
from envpack.runtime.transport.redact import malformed, printable_url, split_url

PORTS = {"http": 80, "https": 443}

_AS_IT_IS = "/%:@!$&'()*+,;=~-._?"
"""Characters that are not quoted: those that RFC 3986 allows in a path and a query, and %, as the text may already
be quoted."""


@dataclass(frozen=True)
class Url:
    """An ``http`` or ``https`` URL in the form that a request needs.

    Args:
        scheme: "http" or "https".
        host: the name or address, an international name in IDNA form, an IPv6 address without brackets.
        port: the number of the port.
        target: path and query, quoted.
        authorization: the value of the header; "" for none.
        remark: why ``~/.netrc`` could not be read; "" where it could or does not exist.
    """

    scheme: str
    host: str
    port: int
    target: str
    authorization: str = ""
    remark: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Return the scheme, host and port: a connection or a password is valid for these three together."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """Return the URL without user, password and query: the query of a presigned URL is a secret too."""
        return printable_url(f"{self.scheme}://{self.netloc}{self.target}")

    def redirected(self, location: str) -> Url:
        """Return the URL that a redirect leads to.

        The credentials are sent only to the same scheme, host and port.

        Args:
            location: the value of the ``Location`` header, relative or absolute.

        Raises:
            FetchError: it is not an URL, its scheme is neither http nor https, or it leads from https to http.
        """
        with suppress(UnicodeEncodeError):  # servers may send a name as it is, and http.client reads Latin-1
            location = quote(location.encode("latin-1"), safe=_AS_IT_IS + "#[]")
        try:
            parts = urlsplit(urljoin(f"{self.scheme}://{self.netloc}{self.target}", location))
        except ValueError:
            raise FetchError(f"{self}: redirect to an invalid URL") from None
        if parts.scheme not in PORTS or (self.scheme, parts.scheme) == ("https", "http"):
            raise FetchError(
                f"{self}: a redirect to {parts.scheme or 'nothing'}:// is not followed from {self.scheme}",
                hint="If you trust the target of the redirect, use its URL.",
            )
        try:
            found = _of(parts)
        except UsageError as error:
            raise FetchError(f"{self}: redirect to an invalid URL: {error.message}") from None
        return replace(found, authorization=self.authorization) if found.origin == self.origin else found


def parse_url(text: str) -> Url:
    """Return the URL in ``text`` with its credentials, or those of ``~/.netrc`` for its host.

    The environment variable NETRC names another file than ``~/.netrc``.

    Raises:
        UsageError: the text is not a valid URL.
    """
    try:
        parts = split_url(text)
        url = _of(parts)
        user, password = parts.username, parts.password
    except ValueError:
        raise malformed() from None
    if user is not None:
        return replace(url, authorization=basic(unquote(user), unquote(password or "")))
    return _with_netrc(url)


def basic(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` header for a user and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _of(parts: SplitResult) -> Url:
    try:
        host, port = parts.hostname or "", parts.port
        if ":" not in host:
            host = host.encode("idna").decode()
    except ValueError:
        raise malformed() from None
    if not host or not host.isprintable() or " " in host:
        raise UsageError("URL without a host", hint="Write https://host/path.")
    path, query = quote(parts.path or "/", safe=_AS_IT_IS), quote(parts.query, safe=_AS_IT_IS)
    scheme = parts.scheme.lower()
    return Url(scheme, host, port or PORTS[scheme], f"{path}?{query}" if query else path)


def _with_netrc(url: Url) -> Url:
    path = Path(os.path.expanduser(os.environ.get("NETRC") or "~/.netrc"))  # stays as it is without a home
    try:
        known = netrc.netrc(str(path)).hosts.get(url.host)
    except OSError:
        return url
    except (netrc.NetrcParseError, ValueError) as problem:
        return replace(url, remark=f"{path} could not be read: {problem}")
    return replace(url, authorization=basic(known[0], known[2] or "")) if known is not None else url
