"""Upload of blobs to a registry: only those that it has not, each streamed, and verified while it is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from urllib.parse import urlencode

from envpack.publish.base import ANSWER_SECONDS
from envpack.publish.oci.layers import Blob
from envpack.runtime.errors import EnvpackError, FetchError
from envpack.runtime.transport.http.connection import explained
from envpack.runtime.transport.http.pool import BUSY, Tries
from envpack.runtime.transport.http.url import Url
from envpack.runtime.transport.oci.registry import HOPELESS, Answer, Registry

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_GONE = (404, 416)
"""What registries answer for an upload that they know no longer, or that has another size for them."""


class _AgainError(Exception):
    """An upload failed in a way that a new one may not; ``wait`` is the server's ``Retry-After``."""

    def __init__(self, error: EnvpackError, wait: str = "") -> None:
        super().__init__(error.message)
        self.error, self.wait = error, wait


class Uploader:
    """Uploads blobs to a repository; it may be used from several threads."""

    def __init__(self, registry: Registry, sources: Iterable[str] = (), chunk: int = 0) -> None:
        """Take the repository, and how blobs get there.

        Args:
            registry: The repository, with the permission to push.
            sources: Other repositories of the registry that may have the blobs, which are then not sent.
            chunk: Bytes of one request; 0 for one request for each blob.
        """
        self._registry, self._sources, self._chunk = registry, tuple(sources), chunk

    def push(self, blob: Blob) -> bool:
        """Upload a blob; return whether it was sent: False where the registry has it already.

        After a lost connection or a busy server, it is sent again from its beginning.

        Raises:
            FetchError: The registry refuses it.
            IntegrityError: The file was changed meanwhile.
        """
        progress = _Progress(blob)
        if self._exists(blob):
            progress.reach(blob.size)
            return False
        session = None
        for source in self._sources:
            query = urlencode({"mount": blob.digest, "from": source})
            url = self._registry.url(f"blobs/uploads/?{query}")
            answer = self._registry.request("POST", url, (201, 202, 403, 404))
            if answer.status == 201:
                progress.reach(blob.size)
                return False
            session = self._location(answer) if answer.status == 202 else session
        tries = Tries(self._registry.pool)
        while True:
            try:
                self._send(blob, session or self._start(), progress)
            except _AgainError as problem:
                tries.again(problem.error, problem.wait)
                session = None
                if self._exists(blob):  # the response was lost, not the blob
                    break
                continue
            break
        progress.reach(blob.size)
        return True

    def _exists(self, blob: Blob) -> bool:
        url = self._registry.url(f"blobs/{blob.digest}")
        answer = self._registry.request("HEAD", url, (200, 404))
        return answer.status == 200 and answer.headers.get("content-length") in (None, str(blob.size))

    def _start(self) -> Url:
        return self._location(self._registry.request("POST", self._registry.url("blobs/uploads/"), (202,)))

    def _location(self, answer: Answer) -> Url:
        place = answer.headers.get("location", "")
        if not place:
            raise FetchError(f"{self._registry.reference.place}: the registry gives no address for an upload")
        return answer.url.redirected(place)

    def _send(self, blob: Blob, session: Url, progress: _Progress) -> None:
        start = 0
        while self._chunk and blob.size - start > self._chunk:
            end = start + self._chunk
            answer = self._transfer("PATCH", session, blob, (start, end), progress)
            got = _RANGE.fullmatch(answer.headers.get("range", ""))
            if got is None or int(got[1]) + 1 != end:
                raise _AgainError(
                    FetchError(
                        f"{self._registry.reference.place}: the registry lost a part of an upload",
                        hint="Publish without ENVPACK_OCI_CHUNK: each blob is then one request.",
                    )
                )
            session, start = self._location(answer), end
        query = urlencode({"digest": blob.digest})
        target = f"{session.target}{'&' if '?' in session.target else '?'}{query}"
        final = Url(session.scheme, session.host, session.port, target)
        self._transfer("PUT", final, blob, (start, blob.size), progress)

    def _transfer(self, method: str, url: Url, blob: Blob, region: tuple[int, int], progress: _Progress) -> Answer:
        start, end = region
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if method == "PATCH":
            headers["Content-Range"] = f"{start}-{end - 1}"

        def body() -> Iterator[bytes]:
            position = start
            for piece in blob.chunks(start, end):
                yield piece
                position += len(piece)
                progress.reach(position)

        try:
            answer = self._registry.send(method, url, headers, body, patience=ANSWER_SECONDS)
        except (OSError, HTTPException) as problem:
            error = explained(url, problem)
            if isinstance(problem, HOPELESS):
                raise error from None
            raise _AgainError(error) from None
        if answer.status in (*BUSY, *_GONE):
            raise _AgainError(self._registry.refused(answer), answer.headers.get("retry-after", ""))
        if answer.status == 400 and b"DIGEST_INVALID" in answer.data:  # bytes were lost or altered on their way
            raise _AgainError(self._registry.refused(answer))
        if answer.status not in ((201, 202) if method == "PATCH" else (201,)):
            raise self._registry.refused(answer)
        return answer


class _Progress:
    """The bytes of a blob that were sent, each counted once, however often they are sent."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self._most = blob, 0

    def reach(self, position: int) -> None:
        if position > self._most:
            self._blob.progress(position - self._most)
            self._most = position
