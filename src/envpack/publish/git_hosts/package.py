"""A package on GitLab while files are uploaded to it: whatever fails is repeated, continued or taken back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress

from envpack.publish.base import Upload
from envpack.publish.git_hosts.api import RefusedError, UnansweredError
from envpack.publish.git_hosts.pieces import Piece, joined, pieces_of, whole
from envpack.publish.git_hosts.project import PackageFile, PackageName, Project
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.transport.documents import PARTS
from envpack.runtime.transport.http.pool import BACKOFF_SECONDS, RETRIES

_MAX_COMPARED = 64 << 20
"""Bytes of the largest file that is downloaded to compare it, from a server that states no digests."""


class Package:
    """A package that files are uploaded to, as `envpack.publish.base.Release` says.

    Attributes:
        in_parts: Whether the bundle was too large for one file.
    """

    def __init__(self, project: Project, name: PackageName, *, limit: int, resume: bool) -> None:
        self._project, self._name, self._limit, self._resume = project, name, limit, resume
        self._files: list[PackageFile] = []
        self._before: set[int] | None = None
        self._made: set[int] = set()
        self._unanswered: set[str] = set()
        self._pieces: list[Piece] = []
        self._bundle = ""
        self._package: int | None = None
        self.in_parts = False

    def open(self, claim: Upload, names: Sequence[str]) -> None:
        """Reserve the names by uploading the claim.

        Raises:
            FileExistsError: A name is taken.
            DestinationError: The server refuses it.
        """
        self._bundle = claim.name.removesuffix(CHECKSUM)
        self._look()
        self._before = {file.id for file in self._files}
        taken = {claim.name, *names, self._bundle + PARTS} & {file.name for file in self._files}
        if taken and not self._resume:
            raise FileExistsError(min(taken))
        self.put(claim)
        self._look()
        claims = self._of_name(claim.name)
        if not claims:
            raise DestinationError("GitLab does not list a file that was uploaded", hint="Run the command again.")
        ours = self._resume or claim.name in self._unanswered or claims[0].id in self._made
        if not ours:  # another process was quicker
            raise FileExistsError(claim.name)

    def put(self, file: Upload) -> None:
        piece = whole(file)
        self._ensure(piece)
        self._pieces.append(piece)

    def commit(self, bundle: Upload) -> None:
        *parts, last = pieces_of(bundle, self._limit)
        self.in_parts = bool(parts)
        for piece in parts:
            self._ensure(piece)
        self._look()
        for piece in (*self._pieces, *parts, last):  # another process may have taken its files back meanwhile
            self._ensure(piece)

    def take_back(self) -> None:
        """Delete what was uploaded, the claim last, as far as the token allows that."""
        if self._before is None:
            return
        claim = self._bundle + CHECKSUM
        with suppress(EnvpackError, FileNotFoundError):
            self._look()
            claims = self._of_name(claim)
            is_own = self._resume or (bool(claims) and claims[0].id in self._made)
            if is_own and self._bundle in joined({file.name: file.size for file in self._files})[0]:
                return
            for file in sorted(self._files, key=lambda file: file.name == claim):
                unknown = file.name in self._unanswered and file.id not in self._before
                if file.id in self._made or unknown:
                    self._delete(file)
            self._look()
            if self._package is not None and not self._before and not self._files:
                self._project.delete_package(self._package)

    def _look(self) -> None:
        self._package, self._files = None, []
        for id, _ in self._project.packages(self._name):
            self._package = id
            self._files += self._project.files(id)

    def _of_name(self, name: str) -> list[PackageFile]:
        return [file for file in self._files if file.name == name]

    def _delete(self, file: PackageFile) -> None:
        try:
            self._project.delete(file)
        except RefusedError as problem:
            if problem.status not in (403, 404):  # a token that may write need not be one that may delete
                raise
        else:
            self._files.remove(file)

    def _ensure(self, piece: Piece) -> None:
        """Upload a file, unless it is there; also if the response to an upload is lost."""
        problem: DestinationError | None = None
        for failed in range(RETRIES + 1):
            if failed:
                time.sleep(BACKOFF_SECONDS * 2 ** (failed - 1))
                self._look()
            if self._is_there(piece):
                piece.skip()
                return
            self._unanswered.add(piece.name)
            try:
                made = self._project.upload(self._name, piece)
            except UnansweredError as unanswered:
                problem = unanswered
                continue
            except RefusedError as refused:
                self._unanswered.discard(piece.name)
                if refused.status != 400 or "duplicate" not in refused.said.lower():
                    raise
                problem = refused
                continue
            self._unanswered.discard(piece.name)
            self._made.add(made.id)
            self._files.append(made)
            if self._is(made, piece):
                return
            self._delete(made)
            problem = DestinationError(f"{piece.name} was damaged on its way to GitLab")
        assert problem is not None
        raise problem

    def _is_there(self, piece: Piece) -> bool:
        """Return whether the file is there; delete others of its name, if the release is resumed.

        Raises:
            FileExistsError: The name is taken.
        """
        for file in self._of_name(piece.name):
            if not self._is(file, piece):
                if not self._resume and file.id not in self._made:
                    raise FileExistsError(piece.name)
                self._delete(file)
        left = self._of_name(piece.name)
        return bool(left) and self._is(left[-1], piece)  # the newest is the one that is downloaded

    def _is(self, file: PackageFile, piece: Piece) -> bool:
        if file.size != piece.size:
            return False
        if file.sha256 or piece.size > _MAX_COMPARED:
            return file.sha256 in ("", piece.sha256)
        try:
            return hashlib.sha256(self._project.download(self._name, file.name)).hexdigest() == piece.sha256
        except FileNotFoundError:
            return False
