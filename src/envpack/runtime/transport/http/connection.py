"""Connections to servers, direct or through the proxy that the environment sets, with verified TLS."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Dict, Iterable
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

from envpack.runtime.errors import FetchError, UsageError
from envpack.runtime.fs.io import read_file
from envpack.runtime.transport.http.pace import PacedResponse
from envpack.runtime.transport.http.url import Url, basic
from envpack.runtime.transport.redact import split_url
from envpack.runtime.version import __version__

CONNECT_SECONDS = 20.0
SILENCE_SECONDS = 60.0
"""Seconds that a server may send nothing. pip waits 15 s, which is short for storage that has to look up the file
first."""

SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Files of certificate authorities on Debian, Fedora, older Red Hat systems, SUSE and Alpine; source: Go's
crypto/x509, root_linux.go."""

Headers = Dict[str, str]


class Link:
    """An open connection to the server of an URL, or to its proxy.

    Raises:
        OSError: on creation and from `send`, the connection failed.
        HTTPException: the server or proxy did not answer as HTTP demands.
        UsageError: on creation, the proxy is of an unsupported kind, or SSL_CERT_FILE can't be used.
    """

    def __init__(self, url: Url) -> None:
        self.origin = url.origin
        self.used = False
        self._prefix, self._headers = "", {"User-Agent": f"envpack/{__version__}", "Accept-Encoding": "identity"}
        proxy = proxy_for(url)
        self._connection = self._straight(url) if proxy is None else self._through(url, proxy)
        self._connection.response_class = PacedResponse
        self._connection.connect()
        self._socket: socket.socket = self._connection.sock
        self._socket.settimeout(SILENCE_SECONDS)

    def _straight(self, url: Url) -> HTTPConnection:
        if url.scheme == "https":
            return HTTPSConnection(url.host, url.port, timeout=CONNECT_SECONDS, context=trust())
        return HTTPConnection(url.host, url.port, timeout=CONNECT_SECONDS)

    def _through(self, url: Url, proxy: Url) -> HTTPConnection:
        authorization = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
        if url.scheme == "https":
            tunnel = HTTPSConnection(proxy.host, proxy.port, timeout=CONNECT_SECONDS, context=trust())
            tunnel.set_tunnel(url.host, url.port, authorization)
            return tunnel
        self._prefix = f"http://{url.netloc}"
        self._headers.update(authorization)
        return HTTPConnection(proxy.host, proxy.port, timeout=CONNECT_SECONDS)

    def request(
        self,
        method: str,
        url: Url,
        headers: Headers,
        body: Iterable[bytes] | None = None,
        patience: float | None = None,
    ) -> HTTPResponse:
        """Send a request and return the response. Its body must be read before the next request.

        Args:
            method: the method.
            url: the URL.
            headers: further headers; with a body, also its Content-Length.
            body: the pieces of the body. A server that refuses the request may answer before it has read them all.
            patience: seconds that the server may take to answer; `SILENCE_SECONDS` if None.
        """
        more = {"Host": url.netloc, **self._headers, **headers}
        if url.authorization:
            more["Authorization"] = url.authorization
        try:
            self._connection.request(method, self._prefix + url.target, body, more)
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise
        self._socket.settimeout(SILENCE_SECONDS if patience is None else patience)
        response = self._connection.getresponse()
        self._socket.settimeout(SILENCE_SECONDS)
        self.used = True
        return response

    def cancel(self) -> None:
        """Shut the connection down, which ends a read that waits in another thread."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # ssl's own would remove TLS under its reader

    def close(self) -> None:
        self._connection.close()


def proxy_for(url: Url) -> Url | None:
    """Return the proxy that ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` set for an URL.

    Raises:
        UsageError: the proxy is of an unsupported kind.
    """
    proxies = getproxies()
    stated = proxies.get(url.scheme) or proxies.get("all")
    if not stated or proxy_bypass(f"{url.host}:{url.port}") or _in_networks(url.host, proxies.get("no", "")):
        return None
    try:
        parts = split_url(stated if "://" in stated else f"http://{stated}")
    except UsageError as error:
        raise UsageError(f"{url.scheme}_proxy: {error.message}", hint=error.hint) from None
    host, port = parts.hostname, parts.port
    if parts.scheme != "http" or not host:
        raise UsageError(
            f"envpack can't use this kind of proxy for {url.scheme}: {parts.scheme}://{host or ''}",
            hint=f"Set {url.scheme}_proxy to http://host:port, or no_proxy to {url.host}.",
        )
    user = basic(unquote(parts.username), unquote(parts.password or "")) if parts.username else ""
    return Url("http", host, port or 80, "/", user)


_NO_BRACKETS = str.maketrans("", "", "[]")


def _in_networks(host: str, stated: str) -> bool:
    """Return whether a host is an address in a network of ``no_proxy``, such as 10.0.0.0/8, as curl has it."""
    from ipaddress import ip_address, ip_network

    try:
        address = ip_address(host)
    except ValueError:
        return False
    for entry in stated.split(","):
        with suppress(ValueError):
            if address in ip_network(entry.strip().translate(_NO_BRACKETS), strict=False):
                return True
    return False


@lru_cache(maxsize=None)
def trust() -> ssl.SSLContext:
    """Return the TLS context that verifies servers, made once.

    The authorities are those that OpenSSL is configured with; SSL_CERT_FILE and SSL_CERT_DIR take precedence.
    Where it has none, as in an environment without ca-certificates, those of `SYSTEM_STORES` are used.

    Raises:
        UsageError: SSL_CERT_FILE can't be used.
    """
    stated = os.environ.get("SSL_CERT_FILE")
    try:
        if stated:
            read_file(stated, 1)
        context = ssl.create_default_context()
        known = ssl.get_default_verify_paths()
        if not (known.cafile or known.capath):
            for store in SYSTEM_STORES:
                if os.path.isfile(store):
                    context.load_verify_locations(store)
                    break
    except OSError as problem:
        raise UsageError(f"SSL_CERT_FILE={stated}: {problem.strerror or problem}") from None
    return context


def explained(url: Url, problem: Exception) -> FetchError:
    """Return the FetchError, with a hint, for a failed connection or request."""
    said = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    hint = "Check the network of this host, and the URL."
    if isinstance(problem, ssl.SSLCertVerificationError):
        said = f"the certificate can't be verified: {problem.verify_message}"
        hint = "If a private authority signed it, set SSL_CERT_FILE to the certificate of that authority."
    elif "Tunnel connection failed" in str(problem):
        said = f"the proxy refused the connection: {said}"
        hint = "If the proxy needs a password, set https_proxy=http://user:password@host:port."
    return FetchError(f"{url}: {said}", hint=hint)
