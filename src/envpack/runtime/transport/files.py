"""Bundles in local files: in one, or in parts that are read as one."""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import Sequence

from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.fs.io import READ
from envpack.runtime.transport.base import ByteSource, FileSource

_HINT = "Give the path of a bundle."


def open_file(path: Path) -> FileSource:
    """Open a regular file.

    Raises:
        FormatError: it is missing, or not a regular file.
    """
    try:
        fd = os.open(path, READ)
    except OSError as problem:
        raise FormatError(f"{path}: {problem.strerror}", hint=_HINT) from None
    kind = os.fstat(fd).st_mode
    if not stat.S_ISREG(kind):
        os.close(fd)
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            raise FormatError(f"{path} is a pipe", hint="Use '-' as the bundle, and redirect the pipe with '<'.")
        what = "a directory" if stat.S_ISDIR(kind) else "not a regular file"
        raise FormatError(f"{path} is {what}, not a bundle", hint=_HINT)
    return FileSource(fd, str(path), os.path.abspath(path))


def open_files(parts: Sequence[tuple[Path, int]], name: str) -> ByteSource:
    """Open files as one.

    Args:
        parts: the paths, in order, and the size in bytes that each must have.
        name: the name of the whole, for messages and as the origin.

    Raises:
        FormatError: a file is missing.
        IntegrityError: a file has another size.
    """
    with ExitStack() as stack:
        opened = []
        for path, size in parts:
            source = open_file(path)
            stack.callback(source.close)
            if source.size != size:
                raise IntegrityError(f"{path} has {source.size:,} bytes, not {size:,}")
            opened.append(source)
        joined = JoinedFiles(opened, name)
        stack.pop_all()
        return joined


class JoinedFiles(ByteSource):
    """Regular files that are read as one."""

    is_seekable = True

    def __init__(self, files: Sequence[FileSource], name: str) -> None:
        self._files = files
        self._ends = list(accumulate(file.size or 0 for file in files))
        super().__init__(name, os.path.abspath(name), self._ends[-1])

    def read(self, offset: int, size: int) -> bytes:
        pieces = []
        while size > 0 and offset < self._ends[-1]:
            index = bisect_right(self._ends, offset)
            start = self._ends[index - 1] if index else 0
            piece = self._files[index].read(offset - start, min(size, self._ends[index] - offset))
            if not piece:
                break
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        for file in self._files:
            file.close()
