"""Errors of decompressors: damage is distinguished from too little memory."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import zstandard

from envpack.cli.app import as_error
from envpack.runtime.errors import EnvpackError, IntegrityError
from envpack.runtime.format.codec import StreamDecoder, damage


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (zlib.error("Error -3 while decompressing data: incorrect data check"), IntegrityError),
        (zlib.error("Error -4 while decompressing data: insufficient memory"), MemoryError),
        (zstandard.ZstdError("decompression error: Data corruption detected"), IntegrityError),
        (zstandard.ZstdError("decompression error: Allocation error : not enough memory"), MemoryError),
        (zstandard.ZstdError("Frame requires too much memory for decoding"), IntegrityError),
        (MemoryError(), MemoryError),
    ],
)
def test_short_memory_is_no_damage(problem: Exception, expected: type[Exception]) -> None:
    class Failing(StreamDecoder):
        def _new(self) -> Any:
            return self

        def decompress(self, data: bytes, limit: int) -> bytes:
            raise problem

    assert type(damage(problem, "a frame is damaged")) is expected
    with pytest.raises(expected):
        Failing().frame(b"x", 1)


@pytest.mark.parametrize(
    "problem", [MemoryError(), RuntimeError("can't start new thread"), OSError(12, "Cannot allocate")]
)
def test_short_memory_is_no_bug(problem: Exception) -> None:
    error = as_error(problem)
    assert type(error) is EnvpackError and "bug" not in error.message
