"""Conversion of a file between its stored and its deployed form, in any pieces, verified by digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from envpack.runtime.errors import IntegrityError
from envpack.runtime.relocation.files import (
    deployed_bytes,
    deployed_size,
    stored_bytes,
    stored_digest,
    stored_pieces,
    verify_digest,
)
from envpack.runtime.relocation.relocation import Relocation

STORED = b"cd /P/bin; ls /P\n"
RELOCATION = Relocation(b"/P", text=(3, 14))
DEPLOYED = b"cd /opt/env/bin; ls /opt/env\n"
PREFIX = b"/opt/env"
SHA256 = hashlib.sha256(STORED).hexdigest()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_one_is_made_of_the_other(size: int) -> None:
    assert b"".join(deployed_bytes(cut(STORED, size), RELOCATION, len(STORED), PREFIX, "x")) == DEPLOYED
    assert b"".join(stored_pieces(cut(DEPLOYED, size), RELOCATION, PREFIX)) == STORED
    assert deployed_size(RELOCATION, len(STORED), PREFIX) == len(DEPLOYED)


def test_without_a_relocation_or_a_prefix_the_pieces_are_returned_unchanged() -> None:
    pieces = [STORED]
    assert deployed_bytes(pieces, None, len(STORED), PREFIX, "x") is pieces
    assert stored_pieces(pieces, None, PREFIX) is pieces
    assert stored_pieces(pieces, RELOCATION, None) is pieces
    assert deployed_size(None, 7, PREFIX) == deployed_size(RELOCATION, 7, None) == 7


def test_other_bytes_are_named_with_their_file() -> None:
    with pytest.raises(IntegrityError, match="'bin/x': the bytes at offset 14"):
        list(deployed_bytes([STORED.replace(b"ls /P", b"ls /Q")], RELOCATION, len(STORED), PREFIX, "bin/x"))


@pytest.mark.parametrize("data", [STORED, DEPLOYED])
def test_the_prefix_that_fits_is_found(data: bytes) -> None:
    assert stored_bytes(data, RELOCATION, SHA256, [b"/elsewhere", PREFIX]) == STORED
    assert stored_bytes(data + b"#", RELOCATION, SHA256, [b"/elsewhere", PREFIX]) is None
    assert (stored_bytes(data, None, SHA256, [PREFIX]) is not None) is (data == STORED)


def test_the_digest_of_an_open_file(tmp_path: Path) -> None:
    def digest(data: bytes, prefix: bytes | None) -> str | None:
        (tmp_path / "x").write_bytes(data)
        with (tmp_path / "x").open("rb") as file:
            os.lseek(file.fileno(), 5, os.SEEK_SET)
            return stored_digest(file.fileno(), RELOCATION, len(STORED), prefix)

    assert digest(DEPLOYED, PREFIX) == digest(STORED, None) == SHA256
    assert digest(DEPLOYED, b"/other/e") is None  # as long, and another one
    assert digest(DEPLOYED + b"#", PREFIX) is None and digest(STORED + b"#", None) is None
    assert digest(DEPLOYED.replace(b"cd", b"mv"), PREFIX) not in (None, SHA256)


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_the_pieces_pass_and_then_the_digest_is_verified(size: int) -> None:
    pieces = cut(os.urandom(3 << 20), 1 << 20) if size > 10 else cut(STORED, size)
    sha256 = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert list(verify_digest(pieces, "bin/x", sha256)) == pieces
    with pytest.raises(IntegrityError, match="'bin/x' does not match its digest"):
        list(verify_digest(pieces, "bin/x", "0" * 64))
