"""Bytes that are copied or moved from file to file, in the kernel and without it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle import append as transfer

DATA = os.urandom(64 << 10) * 37
WAYS = {"copy": transfer.copy, "copy_and_punch": partial(transfer.copy_and_punch, step=100_000)}


def appended(way: Callable[[int, int, int, int], None], source: Path, offset: int, size: int) -> bytes:
    target = source.with_name("target")
    target.write_bytes(b"before")
    with source.open("r+b") as given, target.open("r+b", buffering=0) as taking:
        taking.seek(0, os.SEEK_END)
        way(given.fileno(), offset, taking.fileno(), size)
    return target.read_bytes()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path / "source"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offset, size", [(0, len(DATA)), (1, 5), (4097, 1_000_001), (7, 0)])
def test_the_requested_bytes_are_appended(way: str, offset: int, size: int, source: Path) -> None:
    assert appended(WAYS[way], source, offset, size) == b"before" + DATA[offset : offset + size]


@pytest.mark.parametrize("way", WAYS)
def test_it_goes_without_the_kernel_as_well(way: str, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **keywords: Any) -> int:
        raise OSError(errno.EXDEV, "not between these")

    monkeypatch.setattr(os, "copy_file_range", refused)
    monkeypatch.setattr(transfer, "_fallocate", lambda: None)
    assert appended(WAYS[way], source, 3, 2_000_000) == b"before" + DATA[3:2_000_003]


@pytest.mark.parametrize("way", WAYS)
def test_a_source_that_became_shorter_is_an_error(way: str, source: Path) -> None:
    with pytest.raises(OSError, match="became shorter"):
        appended(WAYS[way], source, 1, len(DATA))


def test_what_is_moved_takes_no_room_any_more_and_the_rest_stays(source: Path) -> None:
    before = source.stat().st_blocks
    appended(transfer.copy_and_punch, source, 5000, len(DATA) - 10_000)
    assert source.stat().st_blocks < before / 8
    left = source.read_bytes()
    assert left[:5000] == DATA[:5000] and left[-5000:] == DATA[-5000:] and len(left) == len(DATA)
    assert not any(left[5000:-5000])


def test_what_is_copied_stays(source: Path) -> None:
    appended(transfer.copy, source, 0, len(DATA))
    assert source.read_bytes() == DATA
