"""Large files are searched and taken in windows, with the same result as in one piece."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from envpack.prefix.relocate.occurrences import digest, find_all
from envpack.prefix.scan import windowed_file as large
from envpack.prefix.scan.windowed_file import FileChunk, WindowedFile, in_memory
from envpack.runtime.errors import PackError


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "WINDOW", 64)
    monkeypatch.setattr(large, "_FIRST", 8)
    monkeypatch.setattr(large, "_ZEROS", bytes(100))


DATA = bytes(300) + b"needle" + bytes(57) + b"needleneedle" + bytes(500) + b"x\0needle"


@pytest.fixture
def file(tmp_path: Path) -> WindowedFile:
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as opened:
        return WindowedFile.of(opened.fileno(), opened.name)


@pytest.mark.parametrize("needle", [b"needle", b"e", b"\0", b"\0\0\0n", b"x\0n", b"needlen", b"absent", b"y" * 90])
def test_it_finds_what_bytes_find_from_anywhere_to_anywhere(file: WindowedFile, needle: bytes) -> None:
    assert list(find_all(file, needle)) == list(find_all(DATA, needle))
    for start in range(0, len(DATA) + 2, 7):
        assert file.find(needle, start) == DATA.find(needle, start)
        for end in (start, start + 5, start + 66, len(DATA)):
            assert file.find(needle, start, end) == DATA.find(needle, start, end)


def test_what_was_looked_for_and_is_not_there_is_not_looked_for_again(
    file: WindowedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.scan({b"absent": b"absent", b"needle": b"edl", b"gone" * 9: b"gone", b"needles": b"edl"})
    reads: list[tuple[int, int]] = []
    read = WindowedFile._read

    def counted(self: WindowedFile, start: int, size: int) -> bytes:
        reads.append((start, size))
        return read(self, start, size)

    monkeypatch.setattr(WindowedFile, "_read", counted)
    assert file.find(b"absent") == file.find(b"gone" * 9) == file.find(b"needles") == -1
    assert reads == []
    assert file.find(b"needle") == 300 and len(reads) == 1
    assert sum(size for _, size in reads) < len(DATA)


@pytest.mark.parametrize("scanned", [False, True])
def test_a_search_for_all_offsets_reads_no_window_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned: bool
) -> None:
    (tmp_path / "file").write_bytes(b"needle " * 100)
    with (tmp_path / "file").open("rb") as opened:
        file = WindowedFile.of(opened.fileno(), opened.name)
    if scanned:
        file.scan({b"needle": b"needle"})
    reads: list[int] = []
    read = WindowedFile._read
    monkeypatch.setattr(WindowedFile, "_read", lambda self, at, size: reads.append(at) or read(self, at, size))
    assert list(find_all(file, b"needle")) == list(range(0, 700, 7))
    assert len(reads) <= 14 and len(set(reads)) == len(reads)


@pytest.mark.parametrize("needle", [b"needle", b"e", b"\0\0\0n", b"x\0n", b"needlen", b"absent", b"y" * 90])
def test_a_file_that_was_scanned_finds_what_bytes_find(file: WindowedFile, needle: bytes) -> None:
    file.scan({needle: needle[:3], b"other": b"other"})
    assert list(find_all(file, needle)) == list(find_all(DATA, needle))
    for start in range(0, len(DATA) + 2, 7):
        assert file.find(needle, start) == DATA.find(needle, start)
        for end in (start, start + 5, start + 66, len(DATA)):
            assert file.find(needle, start, end) == DATA.find(needle, start, end)


def test_pieces_are_read_in_windows_and_are_the_same_bytes(file: WindowedFile) -> None:
    pieces: list[FileChunk] = [b"before", file.part(100, 800), b"", file.part(5, 5), file]
    read = list(in_memory(pieces))
    assert b"".join(read) == b"before" + DATA[100:800] + DATA
    assert max(map(len, read)) == 64
    assert digest(pieces) == hashlib.sha256(b"before" + DATA[100:800] + DATA).hexdigest()


def test_it_is_sliced_as_bytes_are(file: WindowedFile) -> None:
    for start in (None, 0, 7, 299, len(DATA), len(DATA) + 9, -3):
        for stop in (None, 0, 8, 306, len(DATA) + 9, -1):
            assert file[start:stop] == DATA[start:stop]
    inner = file.part(290, 320)
    assert (len(inner), inner[:], inner[10], inner[-1], inner.find(b"needle")) == (30, DATA[290:320], 110, 0, 10)
    assert inner.part(10, 16)[:] == b"needle"
    with pytest.raises(IndexError):
        file[len(DATA)]


def test_a_file_that_became_shorter_is_reported_and_kills_no_process(file: WindowedFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA[:400])
    assert file[:400] == DATA[:400]
    with pytest.raises(PackError, match=r"file became shorter while the environment was packed"):
        file.find(b"absent")


def test_the_file_is_closed_with_the_last_that_looks_into_it(file: WindowedFile) -> None:
    opened = Path("/proc/self/fd", str(file._opened.descriptor))
    inner = file.part(300, 306)
    del file
    assert inner[:] == b"needle" and opened.exists()
