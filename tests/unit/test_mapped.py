"""Mapped files are searched and taken in windows, with the same result as in one piece."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import envpack.prefix.mapped as mapped
from envpack.prefix.mapped import Mapped, Windows
from envpack.prefix.occurrences import digest, find_all


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "WINDOW", 64)
    monkeypatch.setattr(mapped, "_FIRST", 8)
    monkeypatch.setattr(mapped, "_ZEROS", bytes(100))


DATA = bytes(300) + b"needle" + bytes(57) + b"needleneedle" + bytes(500) + b"x\0needle"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Mapped]:
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as opened, Mapped.of(opened) as file:
        yield file


@pytest.mark.parametrize("needle", [b"needle", b"e", b"\0", b"\0\0\0n", b"x\0n", b"needlen", b"absent", b"y" * 90])
def test_it_finds_what_bytes_find_from_anywhere_to_anywhere(file: Mapped, needle: bytes) -> None:
    assert list(find_all(file, needle)) == list(find_all(DATA, needle))
    for start in range(0, len(DATA) + 2, 7):
        assert file.find(needle, start) == DATA.find(needle, start)
        for end in (start, start + 5, start + 66, len(DATA)):
            assert file.find(needle, start, end) == DATA.find(needle, start, end)


def test_what_was_looked_for_and_is_not_there_is_not_looked_for_again(
    file: Mapped, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.look_for([b"absent", b"needle", b"gone" * 9])
    looked: list[int] = []
    windows = Mapped._windows
    monkeypatch.setattr(Mapped, "_windows", lambda self, *a, **o: looked.append(1) or windows(self, *a, **o))
    assert file.find(b"absent") == file.find(b"gone" * 9) == -1
    assert looked == []
    assert file.find(b"needle") == 300 and looked


def test_pieces_are_cut_into_windows_and_are_the_same_bytes(file: Mapped) -> None:
    view = memoryview(file)
    windows = Windows([b"before", view[100:800], b"", view])
    assert b"".join(windows) == b"before" + DATA[100:800] + DATA
    assert max(map(len, windows)) == 64 and len(windows) == len(list(windows))
    assert b"".join(windows[1:3]) == DATA[100:228]
    assert digest([b"before", view]) == hashlib.sha256(b"before" + DATA).hexdigest()
    del windows
    view.release()
