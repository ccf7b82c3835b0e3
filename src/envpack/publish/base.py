"""The interface of a place that releases are published to, such as a folder or an object store.

A release is several small files and a bundle, under names that nothing had before, and that never change
afterwards. The bundle comes last: where it can be found, everything else of the release is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from envpack.runtime.errors import IntegrityError
from envpack.runtime.fs.io import open_regular

_CHUNK = 1 << 20

ANSWER_SECONDS = 300.0
"""Seconds that a server may take to answer when it has all of a file: some copy it first to where it stays."""


def ignore(size: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Upload:
    """One file to publish.

    Attributes:
        name: The file name.
        content: The bytes, or the path of a file that holds them.
        sha256: Their digest, in hex.
        progress: Called with the number of bytes of each piece that was read.
    """

    name: str
    content: bytes | Path
    sha256: str
    progress: Callable[[int], None] = field(default=ignore, compare=False)

    @classmethod
    def of(cls, name: str, content: bytes) -> Upload:
        """Return the upload of some bytes."""
        return cls(name, content, hashlib.sha256(content).hexdigest())

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file, in order.

        Raises:
            IntegrityError: At the end, where the bytes do not have the digest: the file was changed.
        """
        if isinstance(self.content, bytes):
            yield self.content
            self.progress(len(self.content))
            return
        digest = hashlib.sha256()
        with open(self.content, "rb", opener=open_regular) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                yield chunk
                self.progress(len(chunk))
        if digest.hexdigest() != self.sha256:
            raise IntegrityError(
                f"{self.content} was changed while it was published", hint="Run the command again."
            )


class Release(Protocol):
    """A release while it is published: its name is reserved, and its bundle is not there yet."""

    def put(self, file: Upload) -> None:
        """Write a file beside the bundle, to stay. Nothing that exists is replaced, unless a release is resumed.

        Raises:
            FileExistsError: The name is taken.
            DestinationError, OSError: The file can't be written.
        """
        ...

    def commit(self, bundle: Upload) -> None:
        """Publish the bundle, after all other files: all of it appears, or nothing.

        Raises:
            DestinationError, OSError: The bundle can't be written.
            IntegrityError: The file was changed meanwhile.
        """
        ...


class Publisher(Protocol):
    """A place that releases are published to.

    Attributes:
        replaces: Whether a file can be replaced, as `replace` does.
    """

    replaces: bool

    def address(self, name: str) -> str:
        """Return the path or URL that a published file of this name has, as ``envpack deploy`` reads it."""
        ...

    def files(self) -> Mapping[str, int]:
        """Return the names of the files that are there, with their sizes in bytes; empty for a new place.

        Raises:
            DestinationError: They can't be listed.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a small file.

        Raises:
            FileNotFoundError: There is no such file.
            DestinationError: It can't be read.
        """
        ...

    def reserve(
        self, claim: Upload, names: Sequence[str], *, resume: bool = False
    ) -> AbstractContextManager[Release]:
        """Reserve the names of a release, also against others at the same moment.

        An error inside of ``with``, before the bundle is there, takes everything back that was written, as far as
        the place allows that. A process that is killed leaves its files: the same release can be resumed.

        Args:
            claim: The file that reserves the release: it is written first, and only where there is none.
            names: The names of all other files that belong to the release, the bundle's included.
            resume: The same claim is there, and the bundle is not: write what is missing, and replace other files
                of these names.

        Raises:
            FileExistsError: One of the names is taken.
            DestinationError: A file can't be written.
        """
        ...

    def replace(self, file: Upload) -> None:
        """Write a small file, such as the pointer to the latest release, or replace it.

        Raises:
            FileExistsError: Another process wrote it since this one read it, in a place where that can be known.
            DestinationError: The file can't be written.
        """
        ...
