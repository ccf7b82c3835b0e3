"""Replacements at offsets, applied to bytes or to a stream of them, and their inverse."""

from __future__ import annotations

from typing import NamedTuple

from envpack.runtime.errors import IntegrityError


class Splice(NamedTuple):
    """At ``offset``, the bytes ``old`` give way to ``new``."""

    offset: int
    old: bytes
    new: bytes


def inverse(forward: list[Splice]) -> list[Splice]:
    """The replacements that take the result of ``forward`` back to what it was applied to."""
    shift = 0
    back = []
    for offset, old, new in forward:
        back.append(Splice(offset + shift, new, old))
        shift += len(new) - len(old)
    return back


class Splicer:
    """Applies splices to a stream of chunks of any size.

    >>> splicer = Splicer([Splice(2, b"cd", b"CDE")])
    >>> b"".join(splicer.feed(b"abc") + splicer.feed(b"def") + splicer.finish())
    b'abCDEef'
    """

    def __init__(self, todo: list[Splice]) -> None:
        self._todo = todo
        self._next = 0
        self._position = 0
        self._held = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Takes the next bytes of the input; returns what is settled of the output."""
        data = self._held + chunk if self._held else chunk
        out: list[bytes] = []
        done = 0
        while self._next < len(self._todo):
            offset, old, new = self._todo[self._next]
            start = offset - self._position
            if start + len(old) > len(data) or start >= len(data):
                break
            if data[start : start + len(old)] != old:
                raise IntegrityError(f"the bytes at offset {offset} are not those the paths table records")
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
        """Ends the input; returns the rest of the output.

        Raises IntegrityError when a splice lies beyond the end of the input.
        """
        data, self._held = self._held, b""
        out: list[bytes] = []
        for offset, old, new in self._todo[self._next :]:
            start = offset - self._position
            if start > len(data) or data[start : start + len(old)] != old:
                raise IntegrityError(f"the bytes at offset {offset} are not those the paths table records")
            out.append(data[:start])
            out.append(new)
            data = data[start + len(old) :]
            self._position = offset + len(old)
        out.append(data)
        return out


def splice(data: bytes, todo: list[Splice]) -> bytes:
    """The whole of ``data`` with ``todo`` applied; raises IntegrityError where it does not fit."""
    splicer = Splicer(todo)
    return b"".join(splicer.feed(data) + splicer.finish())
