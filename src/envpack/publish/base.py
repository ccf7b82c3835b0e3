"""The interface of a place that releases are published to, such as a folder.

A release is several small files and a bundle, under names that nothing had before, and that never change
afterwards. The bundle comes last: where it can be found, everything else of the release is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from envpack.runtime.fs.io import open_regular

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Upload:
    """One file to publish.

    Attributes:
        name: The file name.
        content: The bytes, or the path of a file that holds them.
        sha256: Their digest, in hex, for places that store bytes by digest.
    """

    name: str
    content: bytes | Path
    sha256: str

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the file, in order."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with open(self.content, "rb", opener=open_regular) as file:
            while chunk := file.read(_CHUNK):
                yield chunk


class Release(Protocol):
    """A release while it is published: its name is reserved, and its bundle is not there yet."""

    def put(self, file: Upload) -> None:
        """Write a file beside the bundle, to stay. Nothing that exists is replaced.

        Raises:
            FileExistsError: The name is taken.
            OSError: The file can't be written.
        """
        ...

    def commit(self, bundle: Upload) -> None:
        """Publish the bundle, after all other files: all of it appears, or nothing.

        ``content`` is the path of a file in `Publisher.staging`. A place with mutable pointers, such as a tag or
        ``latest``, moves them after this.

        Raises:
            OSError: The bundle can't be written.
        """
        ...


class Publisher(Protocol):
    """A place that releases are published to."""

    def address(self, name: str) -> str:
        """Return the path or URL that a published file of this name has, as ``envpack deploy`` reads it."""
        ...

    def staging(self) -> AbstractContextManager[Path]:
        """Yield a folder for unfinished files; it is removed at the end.

        Raises:
            DestinationError: The folder can't be made.
        """
        ...

    def reserve(self, claim: Upload, names: Sequence[str]) -> AbstractContextManager[Release]:
        """Reserve the names of a release, also against others at the same moment.

        An error inside of ``with``, before the bundle is there, takes everything back that was written.

        Args:
            claim: The file that reserves the release: it is written first, and only where there is none.
            names: The names of all other files that belong to the release, the bundle's included.

        Raises:
            FileExistsError: One of the names is taken.
            DestinationError: A file can't be written.
        """
        ...
