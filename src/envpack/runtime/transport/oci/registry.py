"""Requests to one repository of a registry, with credentials and retries; what they return is verified.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from http.client import HTTPException
from typing import Collection, Iterator, Mapping, NamedTuple, Sequence
from urllib.parse import quote

from envpack.runtime.errors import FetchError, FormatError, IntegrityError
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.transport.http.connection import Headers, explained
from envpack.runtime.transport.http.pace import TooSlowError
from envpack.runtime.transport.http.pool import BUSY, RENEWALS, Body, Pool, Tries
from envpack.runtime.transport.http.url import Url
from envpack.runtime.transport.oci.auth import RegistryAuth, login_hint, scope
from envpack.runtime.transport.oci.manifest import (
    INDEX,
    MANIFEST,
    MAX_MANIFEST,
    Descriptor,
    Document,
    read_document,
)
from envpack.runtime.transport.oci.reference import Reference

_MAX_PAGES = 1000
_NEXT = re.compile(r'<([^<>]+)>\s*;.*\brel="?next"?')
HOPELESS = (ConnectionRefusedError, ConnectionAbortedError, socket.gaierror, ssl.SSLError, TooSlowError)
"""Errors of a connection that no retry can repair."""
_NO_REFERRERS = (400, 404, 405, 501)
"""What registries answer that do not have the referrers API; the specification says 404."""


class Answer(NamedTuple):
    """A response that was read: its status, its body, its headers (names in lower case), and its URL."""

    status: int
    data: bytes
    headers: Mapping[str, str]
    url: Url


class Registry:
    """A client of one repository; it may be used from several threads."""

    def __init__(
        self,
        reference: Reference,
        environ: Mapping[str, str],
        *,
        plain: bool,
        actions: Sequence[str] = ("pull",),
        sources: Sequence[str] = (),
    ) -> None:
        """Take the repository, and what its requests do.

        Args:
            reference: the registry and the repository.
            environ: environment variables, which lead to the credentials.
            plain: speak to it by http.
            actions: what a token must allow: "pull", or "pull" and "push".
            sources: other repositories, of which layers are taken.
        """
        self.reference, self._plain = reference, plain
        scopes = [scope(reference.repository, *actions), *(scope(source, "pull") for source in sources)]
        self._auth = RegistryAuth(reference, scopes, environ, plain=plain)
        self.pool = Pool(self._auth)

    def url(self, target: str) -> Url:
        """Return the URL of something in the repository, such as ``blobs/sha256:...``."""
        return self.reference.url(f"{self.reference.repository}/{target}", plain=self._plain)

    def request(
        self,
        method: str,
        url: Url,
        good: Collection[int],
        *,
        headers: Headers | None = None,
        body: Body | None = None,
        most: int = MAX_MANIFEST,
    ) -> Answer:
        """Send a request, and read the response; again where the server is busy or the connection is lost.

        Args:
            method: the method.
            url: the URL.
            good: the status codes to return; another one is an error.
            headers: further headers.
            body: the body.
            most: bytes of the largest response.

        Raises:
            FetchError: the registry refuses the request, can't be reached, or its response is too long.
        """
        tries = Tries(self.pool)
        while True:
            wait = ""
            try:
                answer = self.send(method, url, headers or {}, body, most)
            except (OSError, HTTPException) as problem:
                error = explained(url, problem)
                if isinstance(problem, HOPELESS):
                    raise error from None
            else:
                if answer.status in good:
                    return answer
                error, wait = self.refused(answer), answer.headers.get("retry-after", "")
                if answer.status not in BUSY:
                    raise error
            tries.again(error, wait)

    def send(
        self,
        method: str,
        url: Url,
        headers: Headers,
        body: Body | None = None,
        most: int = MAX_MANIFEST,
        patience: float | None = None,
    ) -> Answer:
        """Send a request once, with new credentials if those before are not accepted, and read the response.

        ``patience`` is the number of seconds that the registry may take to answer, see `Pool.request`.

        Raises:
            FetchError: there are no credentials, or the response is too long.
            OSError, HTTPException: the connection failed or was cancelled.
        """
        reply = self.pool.request(method, url, headers, body, patience)
        renewed = 0
        while reply.status == 401 and renewed < RENEWALS and self.pool.renew(reply):
            renewed += 1
            self.pool.release(reply, whole=False)
            reply = self.pool.request(method, url, headers, body, patience)
        whole = False
        try:
            data = reply.response.read(most + 1)
            if reply.size is not None and len(data) < min(reply.size, most):
                raise ConnectionError("the connection was lost")
            whole = reply.response.isclosed()
        finally:
            self.pool.release(reply, whole=whole)
        if len(data) > most:
            raise FormatError(f"{reply.url}: a response of more than {most:,} bytes")
        found = {name.lower(): value for name, value in reply.response.getheaders()}
        return Answer(reply.status, data, found, reply.url)

    def refused(self, answer: Answer) -> FetchError:
        """Return the error for a response, with what the registry says."""
        reference = self.reference
        where, status = reference.place, answer.status
        if status in (401, 403):
            hint = login_hint(reference.registry, anonymous=self._auth.is_anonymous)
            return FetchError(f"{where}: no permission{_said(answer.data)}", hint=hint)
        return FetchError(
            f"{where}: the registry responded {status}{_said(answer.data)}",
            hint="Try again later." if status in BUSY else "Compare the address with the one that was published.",
        )

    def manifest(self, wanted: str) -> tuple[Document, bytes] | None:
        """Return a manifest or an index, and its bytes; None where there is none.

        Args:
            wanted: a digest, which is verified, or a tag.

        Raises:
            FetchError, FormatError: it can't be had, or is not valid.
            IntegrityError: it has another digest.
        """
        where = f"{self.reference.place}{'@' if ':' in wanted else ':'}{wanted}"
        accept = {"Accept": f"{MANIFEST}, {INDEX}"}
        answer = self.request("GET", self.url(f"manifests/{quote(wanted, safe=':')}"), (200, 404), headers=accept)
        if answer.status == 404:
            return None
        digest = f"sha256:{hashlib.sha256(answer.data).hexdigest()}"
        if ":" in wanted and digest != wanted:
            raise IntegrityError(f"{where}: the registry returned another manifest")
        type = answer.headers.get("content-type", "").partition(";")[0].strip()
        return read_document(answer.data, digest, type, where), answer.data

    def blob(self, layer: Descriptor, most: int) -> bytes:
        """Return a whole blob, verified.

        Args:
            layer: its digest and size.
            most: bytes of the largest that is read.

        Raises:
            FetchError, FormatError: it can't be had, or is too large.
            IntegrityError: it is damaged.
        """
        where = f"{self.reference.place}@{layer.digest}"
        if layer.size > most:
            raise FormatError(f"{where}: {layer.size:,} bytes where at most {most:,} are expected")
        data = self.request("GET", self.url(f"blobs/{layer.digest}"), (200,), most=most).data
        if len(data) != layer.size or f"sha256:{hashlib.sha256(data).hexdigest()}" != layer.digest:
            raise IntegrityError(f"{where} is damaged in the registry")
        return data

    def tags(self) -> list[str]:
        """Return the tags of the repository; [] where there is no such repository."""
        try:
            pages = [json_value(answer.data).get("tags") or [] for answer in self._pages("tags/list?n=1000")]
            return [str(tag) for page in pages for tag in page]
        except (ValueError, AttributeError, TypeError):
            raise FormatError(f"{self.reference.place}: a list of tags that is not valid") from None

    def _pages(self, target: str, none: Collection[int] = (404,)) -> Iterator[Answer]:
        """Yield the pages of a list; nothing where the status is one of ``none``."""
        url = self.url(target)
        for _ in range(_MAX_PAGES):
            answer = self.request("GET", url, (200, *none))
            if answer.status in none:
                return
            yield answer
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return
            url = url.redirected(following[1])

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return what refers to a manifest: documents that were attached to it.

        Where the registry has no API for that, they are in the index with the tag that the specification gives it.

        Raises:
            FetchError, FormatError: they can't be had, or are not valid.
        """
        where = f"{self.reference.place}@{digest}"
        pages = [
            read_document(page.data, "", INDEX, where)
            for page in self._pages(f"referrers/{digest}", _NO_REFERRERS)
        ]
        if pages:
            return [each for page in pages for each in page.manifests]
        tagged = self.manifest(fallback_tag(digest))
        return list(tagged[0].manifests) if tagged is not None else []

    def cancel(self) -> None:
        """Let every request, in any thread, fail."""
        self.pool.cancel()

    def close(self) -> None:
        self.pool.close()


def fallback_tag(digest: str) -> str:
    """Return the tag of the index of referrers (distribution specification, "Referrers Tag Schema")."""
    return digest.replace(":", "-")


def _said(data: bytes) -> str:
    """Return the first error that a registry states, as far as it can be printed."""
    try:
        error = json_value(data)["errors"][0]
        text = f"{error.get('code', '')}: {error.get('message', '')}"
    except (ValueError, LookupError, TypeError, AttributeError):
        return ""
    return f" ({''.join(letter for letter in text if letter.isprintable())[:200]})"
