"""Files while they are uploaded to a server: whatever fails is repeated, continued or taken back."""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from typing import Generic, Protocol, TypeVar

from envpack.publish.base import Upload
from envpack.publish.git_hosts.api import RefusedError, UnansweredError
from envpack.publish.git_hosts.pieces import Piece, pieces_of, whole
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.transport.http.pool import RETRIES, backoff_seconds

_MAX_COMPARED = 64 << 20
"""Bytes of the largest file that is downloaded to compare it, from a server that states no digests."""


class HostedFile(Protocol):
    """A file on the server: its number, name, size in bytes and digest in hex; "" where that is not stated."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


File = TypeVar("File", bound=HostedFile)


class Uploads(ABC, Generic[File]):
    """What is uploaded for one bundle, as `envpack.publish.base.Release` says; a subclass for each server.

    Attributes:
        in_parts: Whether the bundle was too large for one file.
    """

    server: str
    """The name of the server, for messages."""

    def __init__(self, *, limit: int, resume: bool) -> None:
        """Take the size of a file in bytes at most, and whether files of the release are replaced."""
        self._limit, self._resume = limit, resume
        self._made: set[int] = set()
        self._unanswered: set[str] = set()
        self._pieces: list[Piece] = []
        self.in_parts = False

    def put(self, file: Upload) -> None:
        piece = whole(file)
        self._ensure(piece)
        self._pieces.append(piece)

    def commit(self, bundle: Upload) -> None:
        *parts, last = pieces_of(bundle, self._limit)
        self.in_parts = bool(parts)
        self._check_room([*parts, last])
        for part in parts:
            self._ensure(part)
        self._look()
        for piece in (*self._pieces, *parts, last):  # another process may have taken its files back meanwhile
            self._ensure(piece)

    def _check_room(self, pieces: list[Piece]) -> None:
        """Raise DestinationError where the server does not take so many files."""

    @abstractmethod
    def _look(self) -> None:
        """Ask the server for the files that are there."""

    @abstractmethod
    def _has(self, piece: Piece) -> bool:
        """Return whether a file is there; delete others of its name that may be replaced.

        Raises:
            FileExistsError: The name is taken.
        """

    @abstractmethod
    def _upload(self, piece: Piece) -> File:
        """Upload a file once, and remember that it is there."""

    @abstractmethod
    def _download(self, file: File) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: It was deleted.
        """

    @abstractmethod
    def _delete(self, file: File) -> None:
        """Delete a file."""

    @abstractmethod
    def _is_taken(self, refusal: RefusedError) -> bool:
        """Return whether an upload was refused because there is a file of this name."""

    def _explained(self, refusal: RefusedError) -> EnvpackError:
        """Return the error to raise for a refused upload."""
        return refusal

    def _ensure(self, piece: Piece) -> None:
        """Upload a file, unless it is there; also if the response to an upload is lost."""
        problem: DestinationError | None = None
        for failed in range(RETRIES + 1):
            if failed:
                time.sleep(backoff_seconds(failed))
                self._look()
            if self._has(piece):
                piece.skip()
                return
            self._unanswered.add(piece.name)
            try:
                made = self._upload(piece)
            except UnansweredError as unanswered:
                problem = unanswered
                continue
            except RefusedError as refused:
                self._unanswered.discard(piece.name)
                if not self._is_taken(refused):
                    raise self._explained(refused) from None
                problem = refused
                continue
            self._unanswered.discard(piece.name)
            self._made.add(made.id)
            if self._is(made, piece):
                return
            self._delete(made)
            problem = DestinationError(f"{piece.name} was damaged on its way to {self.server}")
        assert problem is not None
        raise problem

    def _is(self, file: File, piece: Piece) -> bool:
        if file.size != piece.size:
            return False
        if file.sha256 or piece.size > _MAX_COMPARED:
            return file.sha256 in ("", piece.sha256)
        try:
            return hashlib.sha256(self._download(file)).hexdigest() == piece.sha256
        except FileNotFoundError:
            return False
