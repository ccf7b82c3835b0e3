"""A bundle that is refused as a file is refused from a pipe and a server, for the same reason, and no later."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.verify import verify
from envpack.runtime.errors import EnvpackError
from envpack.runtime.report import Reporter
from support.hostile_bundles import HOSTILE
from support.servers import Files, serving

NAMES = list(HOSTILE)


def between(first: str, last: str) -> list[str]:
    return NAMES[NAMES.index(first) : NAMES.index(last) + 1]


FORGED = [
    *between("a manifest that states too few bytes", "data in the padding"),
    *between("a manifest of the future", "a codec of another file"),
    *between("a file twice", "a gzip of gzip"),
]
"""Bundles with wrong sizes, or with a file that differs from its record."""


@pytest.fixture(scope="module")
def server() -> Iterator[Files]:
    with serving({}) as files:
        yield files


def refusal(where: Path | str) -> tuple[str, int]:
    with pytest.raises(EnvpackError) as caught:
        verify(where, reporter=Reporter(), decoders=FAST, jobs=2)
    return type(caught.value).__name__, caught.value.code


def piped(data: bytes) -> tuple[str, int]:
    ours, theirs = os.pipe()
    stdin = os.dup(0)

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(theirs, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    os.dup2(ours, 0)
    os.close(ours)
    try:
        return refusal("-")
    finally:
        os.dup2(stdin, 0)
        os.close(stdin)
        writer.join()


@pytest.mark.parametrize("name", FORGED)
def test_the_same_refusal_wherever_it_comes_from(name: str, server: Files, tmp_path: Path) -> None:
    data = HOSTILE[name].write(tmp_path / "b").read_bytes()
    server.data["/b"] = data
    expected = refusal(tmp_path / "b")
    assert piped(data) == expected
    for server.ranges in (True, False):
        assert refusal(f"{server.url}/b") == expected
