"""Replacements at byte offsets, applied to bytes or to a stream of chunks, and their inverse."""

from __future__ import annotations

from typing import NamedTuple

from envpack.runtime.errors import IntegrityError


class Splice(NamedTuple):
    """One replacement: the bytes ``old`` at ``offset`` (in bytes, of the input) become ``new``."""

    offset: int
    old: bytes
    new: bytes


def inverse(forward: list[Splice]) -> list[Splice]:
    """Return the replacements that undo ``forward``, which must be in ascending order of offset."""
    shift = 0
    back = []
    for offset, old, new in forward:
        back.append(Splice(offset + shift, new, old))
        shift += len(new) - len(old)
    return back


class Splicer:
    """A filter that applies splices, in ascending order of offset, to a stream of chunks of any size.

    >>> splicer = Splicer([Splice(2, b"cd", b"CDE")])
    >>> b"".join(splicer.feed(b"abc") + splicer.feed(b"def") + splicer.finish())
    b'abCDEef'

    Args:
        todo: the splices.
        path: a path to name in errors; "" for none.
    """

    def __init__(self, todo: list[Splice], path: str = "") -> None:
        self._todo, self._path = todo, path
        self._next = 0
        self._position = 0
        self._held = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes of the input and return the part of the output that is final.

        Raises:
            IntegrityError: the input does not hold the old bytes of a splice at its offset.
        """
        data = self._held + chunk if self._held else chunk
        out: list[bytes] = []
        done = 0
        while self._next < len(self._todo):
            offset, old, new = self._todo[self._next]
            start = offset - self._position
            if start + len(old) > len(data) or start >= len(data):
                break
            if data[start : start + len(old)] != old:
                raise self._mismatch(offset)
            out.append(data[done:start])
            out.append(new)
            done = start + len(old)
            self._next += 1
        keep = len(data)
        if self._next < len(self._todo):
            keep = max(done, min(keep, self._todo[self._next].offset - self._position))
        out.append(data[done:keep])
        self._held = data[keep:]
        self._position += keep
        return out

    def finish(self) -> list[bytes]:
        """End the input and return the rest of the output.

        Raises:
            IntegrityError: a splice lies beyond the end of the input, or does not match it.
        """
        data, self._held = self._held, b""
        out: list[bytes] = []
        for offset, old, new in self._todo[self._next :]:
            start = offset - self._position
            if start > len(data) or data[start : start + len(old)] != old:
                raise self._mismatch(offset)
            out.append(data[:start])
            out.append(new)
            data = data[start + len(old) :]
            self._position = offset + len(old)
        out.append(data)
        return out

    def _mismatch(self, offset: int) -> IntegrityError:
        where = f"{self._path!r}: " if self._path else ""
        return IntegrityError(f"{where}the bytes at offset {offset} are not those in the paths table")


def splice(data: bytes, todo: list[Splice]) -> bytes:
    """Return ``data`` with the splices ``todo``, in ascending order of offset, applied.

    Raises:
        IntegrityError: a splice does not match the data.
    """
    splicer = Splicer(todo)
    return b"".join(splicer.feed(data) + splicer.finish())
