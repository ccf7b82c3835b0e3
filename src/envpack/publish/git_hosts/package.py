"""A package on GitLab while files are uploaded to it: whatever fails is repeated, continued or taken back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from envpack.publish.base import Upload
from envpack.publish.git_hosts.api import RefusedError
from envpack.publish.git_hosts.pieces import Piece, joined
from envpack.publish.git_hosts.project import PackageFile, PackageName, Project
from envpack.publish.git_hosts.uploads import Uploads
from envpack.publish.release import CHECKSUM
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.transport.documents import PARTS


class Package(Uploads[PackageFile]):
    """A package that files are uploaded to."""

    server = "GitLab"

    def __init__(self, project: Project, name: PackageName, *, limit: int, resume: bool) -> None:
        super().__init__(limit=limit, resume=resume)
        self._project, self._name = project, name
        self._files: list[PackageFile] = []
        self._before: set[int] | None = None
        self._bundle = ""
        self._package: int | None = None

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

    def _upload(self, piece: Piece) -> PackageFile:
        made = self._project.upload(self._name, piece)
        self._files.append(made)
        return made

    def _download(self, file: PackageFile) -> bytes:
        return self._project.download(self._name, file.name)

    def _is_taken(self, refusal: RefusedError) -> bool:
        return refusal.status == 400 and "duplicate" in refusal.said.lower()

    def _has(self, piece: Piece) -> bool:
        found = self._of_name(piece.name)
        if piece.name == self._bundle + CHECKSUM and found and found[0].id in self._made:
            return self._is(found[0], piece)  # the oldest one counts; another publisher takes its own back
        for file in found:
            if not self._is(file, piece):
                if not self._resume and file.id not in self._made:
                    raise FileExistsError(piece.name)
                self._delete(file)
        left = self._of_name(piece.name)
        return bool(left) and self._is(left[-1], piece)  # the newest is the one that is downloaded
