"""Authentication with registries: challenges, tokens for a scope, and their renewal.

Source: the distribution project's "Token Authentication Specification" and "OAuth2 Token Authentication".
"""

from __future__ import annotations

import re
import threading
import time
from http.client import HTTPException
from typing import Iterable, Iterator, Mapping, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from envpack.runtime.errors import FetchError, UsageError
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.transport.http.connection import Headers, explained
from envpack.runtime.transport.http.pool import BUSY, Body, Pool, Reply, Tries
from envpack.runtime.transport.http.url import Url, basic, parse_url
from envpack.runtime.transport.oci.credentials import Credentials, find_credentials
from envpack.runtime.transport.oci.reference import Reference

PLAIN_REGISTRIES = "ENVPACK_INSECURE_REGISTRIES"
"""The environment variable with the registries, as host:port and separated by commas, that are read by http."""

_CHALLENGE = re.compile(r"\s*,?\s*(?:(?P<scheme>[A-Za-z]+)\s+(?=[A-Za-z_]+\s*=))?(?P<name>[A-Za-z_]+)\s*=\s*")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,"]+)')
_TOKEN = re.compile(r"[\x21-\x7e]+")
_MAX_ANSWER = 1 << 20
_LIFETIME = 60.0
"""Seconds that a token is valid where the service does not say it (specification, "Token Response Fields")."""
_USED_UP = 0.8
"""Fraction of its lifetime after which a token is renewed: an upload takes longer than its first request."""
_CLIENT = "envpack"


class Challenge(NamedTuple):
    """What a registry demands: the scheme in lower case, and its parameters."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a ``WWW-Authenticate`` header (RFC 9110, section 11.6.1)."""
    found: list[tuple[str, dict[str, str]]] = []
    for scheme, name, value in _parameters(header):
        if scheme:
            found.append((scheme.lower(), {}))
        if found:
            found[-1][1].setdefault(name.lower(), value)
    return [Challenge(*each) for each in found]


def _parameters(header: str) -> Iterator[tuple[str, str, str]]:
    position = 0
    while True:
        name = _CHALLENGE.match(header, position)
        value = _VALUE.match(header, name.end()) if name else None
        if name is None or value is None:
            return
        text = re.sub(r"\\(.)", r"\1", value[1]) if value[1] is not None else value[2]
        yield name["scheme"] or "", name["name"], text
        position = value.end()


def is_plain(reference: Reference, environ: Mapping[str, str]) -> bool:
    """Return whether a registry is spoken to by http: on this host, or where `PLAIN_REGISTRIES` names it."""
    return reference.is_loopback or reference.registry in _plain_registries(environ)


def _plain_registries(environ: Mapping[str, str]) -> set[str]:
    return {name.strip().lower() for name in environ.get(PLAIN_REGISTRIES, "").split(",") if name.strip()}


def scope(repository: str, *actions: str) -> str:
    """Return the scope of a token for a repository."""
    return f"repository:{repository}:{','.join(actions)}"


class _Token(NamedTuple):
    authorization: str
    renewed_at: float


class RegistryAuth:
    """The credentials of the requests to one registry, as `envpack.runtime.transport.http.pool.Authority`.

    They are sent to that host alone. What they are is found when the registry asks for them.
    """

    def __init__(
        self, reference: Reference, scopes: Iterable[str], environ: Mapping[str, str], *, plain: bool
    ) -> None:
        """Take the registry, the scopes of its tokens, and whether it is spoken to by http."""
        self._reference, self._scopes = reference, tuple(scopes)
        self._environ, self._plain = environ, plain
        self._origin = reference.url("", plain=plain).origin
        self._challenge: Challenge | None = None
        self._credentials: Credentials | None = None
        self._token = _Token("", float("inf"))
        self._used = threading.local()
        self._lock = threading.RLock()

    def headers(self, url: Url) -> Headers:
        if url.origin != self._origin:
            return {}
        with self._lock:
            if time.monotonic() >= self._token.renewed_at and self._challenge is not None:
                self._token = self._answer(self._challenge)
            self._used.authorization = self._token.authorization
        return {"Authorization": self._token.authorization} if self._token.authorization else {}

    def renew(self, reply: Reply) -> bool:
        """Get credentials, or a new token, after a response of status 401 of the registry.

        Raises:
            FetchError: the token service refuses the credentials, or can't be reached.
            EnvpackError: a file with credentials is not valid, or a helper failed.
        """
        if reply.url.origin != self._origin:
            return False
        with self._lock:
            used = getattr(self._used, "authorization", "")
            if used != self._token.authorization:
                return True  # another thread has a new token
            known = parse_challenges(reply.header("WWW-Authenticate"))
            challenge = next((each for each in known if each.scheme == "bearer"), None)
            challenge = challenge or next((each for each in known if each.scheme == "basic"), None)
            if challenge is None:
                return False
            self._challenge = challenge
            self._token = self._answer(challenge)
            return self._token.authorization not in ("", used) or challenge.scheme == "bearer"

    @property
    def is_anonymous(self) -> bool:
        """Return whether no credentials were found for the registry, which asked for them."""
        return self._credentials == Credentials()

    def _answer(self, challenge: Challenge) -> _Token:
        if self._credentials is None:
            reference = self._reference
            self._credentials = find_credentials(reference.registry, reference.repository, self._environ)
        known = self._credentials
        if known.token:
            return _Token(f"Bearer {known.token}", float("inf"))
        if challenge.scheme == "basic":
            return _Token(basic(known.user, known.password) if known.user else "", float("inf"))
        return self._ask(challenge, known)

    def _ask(self, challenge: Challenge, known: Credentials) -> _Token:
        realm = self._realm(challenge)
        service = challenge.parameters.get("service", "")
        scopes = self._scopes or tuple(challenge.parameters.get("scope", "").split())
        if known.identity:
            form = {"grant_type": "refresh_token", "service": service, "client_id": _CLIENT}
            form.update({"scope": " ".join(scopes), "refresh_token": known.identity})
            body = urlencode(form).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
            status, data = self._request("POST", realm, headers, lambda: [body])
        else:
            password = basic(known.user, known.password) if known.user else ""
            path, _, query = realm.target.partition("?")
            more = [("service", service)] if service else []
            pairs = [*parse_qsl(query), *more, *(("scope", each) for each in scopes)]
            # as a part of the URL, it is not sent to another server that a redirect leads to
            realm = Url(realm.scheme, realm.host, realm.port, f"{path}?{urlencode(pairs)}", password)
            status, data = self._request("GET", realm, {}, None)
        registry = self._reference.registry
        if status != 200:
            raise FetchError(
                f"{registry}: no permission for {self._reference.repository}: the token service answered {status}",
                hint=login_hint(registry, anonymous=not (known.user or known.identity)),
            )
        return _token_of(data, registry)

    def _realm(self, challenge: Challenge) -> Url:
        """Return the URL of the token service, which the credentials are sent to."""
        registry = self._reference.registry
        text = challenge.parameters.get("realm", "")
        try:
            parts = urlsplit(text)
            realm = parse_url(text) if parts.scheme in ("http", "https") and parts.username is None else None
        except (UsageError, ValueError):
            realm = None
        if realm is None:
            raise FetchError(f"{registry}: the address of its token service is not valid")
        bare = Url(realm.scheme, realm.host, realm.port, realm.target)
        if bare.scheme == "http":
            service = Reference(bare.host, bare.port, "")
            same_host = self._plain and bare.host == self._reference.host
            if not (same_host or is_plain(service, self._environ)):
                raise FetchError(
                    f"{registry}: its token service is asked without TLS, which would show the password",
                    hint=f"Set {PLAIN_REGISTRIES}={service.registry} if you trust the network.",
                )
        return bare

    def _request(self, method: str, url: Url, headers: Headers, body: Body | None) -> tuple[int, bytes]:
        pool = Pool()
        tries = Tries(pool)
        try:
            while True:
                try:
                    reply = pool.request(method, url, headers, body)
                    data = reply.response.read(_MAX_ANSWER)
                except (OSError, HTTPException) as problem:
                    tries.again(explained(url, problem))
                    continue
                if reply.status not in BUSY:
                    return reply.status, data
                tries.again(FetchError(f"{url}: the server responded {reply.status}"), reply.header("Retry-After"))
        finally:
            pool.close()


def _token_of(data: bytes, registry: str) -> _Token:
    try:
        value = json_value(data)
        token = value.get("token") or value.get("access_token")
        lifetime = float(value.get("expires_in") or _LIFETIME)
        good = isinstance(token, str) and _TOKEN.fullmatch(token) is not None
    except (ValueError, TypeError, AttributeError, OverflowError):
        good = False
    if not good:
        raise FetchError(f"{registry}: its token service returned no token")
    return _Token(f"Bearer {token}", time.monotonic() + _USED_UP * lifetime)


def login_hint(registry: str, *, anonymous: bool) -> str:
    """Return what to do where a registry refuses a request."""
    if anonymous:
        return f"Log in with 'docker login {registry}' or 'podman login {registry}'."
    return f"The credentials of 'docker login' or 'podman login' for {registry} do not allow this."
