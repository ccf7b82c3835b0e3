"""A bundle cut into parts: each path is in one of them, with the bytes that it has in the whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import FramePrefetcher, frames_of
from envpack.runtime.reader.partition import Part, parts_of
from support.bundle_factory import file, link, make_bundle


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments of many small files, of one over several frames, with links in between, and without any path."""
    path = tmp_path_factory.mktemp("parts") / "b.tar.zst"
    make_bundle(
        path,
        {
            "nothing": [],
            "small": [file(f"small/{'n' * (number % 130)}{number}", noise(number * 37)) for number in range(300)],
            "mixed": [
                link("mixed/a", "b"),
                file("mixed/b", noise(9_000_000)),
                file("mixed/c", b""),
                link("mixed/d", "c"),
                file("mixed/e", noise(5_000_000, 1)),
                file("mixed/f", b"last"),
            ],
            "last": [link("link", "small")],
        },
    )
    return path


@pytest.mark.parametrize("size", [1, 1 << 10, 100_000, 5_000_000, 1 << 40])
def test_the_parts_are_the_whole(size: int, bundle: Path) -> None:
    found: dict[PathRecord, bytes] = {}
    read: list[int] = []
    with open_bundle(bundle, FAST) as opened:
        segments = opened.manifest.segments
        table = opened.table()
        for part in parts_of(opened, table, min_size=size):
            for record, pieces in part.entries(opened, read.append):
                assert record not in found
                found[record] = b"".join(pieces)
        whole = {}
        with FramePrefetcher(opened, frames_of(opened, [segment.id for segment in segments]), 2) as frames:
            for segment in segments:
                records = table.segments.get(segment.id, ())
                for record, pieces in entries(frames.take(segment.id), segment.id, records, lambda amount: None):
                    whole[record] = b"".join(pieces)
    assert found == whole
    assert sum(read) == sum(segment.size for segment in segments)


def test_large_parts_come_first_and_there_are_not_too_many(bundle: Path) -> None:
    with open_bundle(bundle, FAST) as opened:
        sizes = [part.size for part in parts_of(opened, opened.table(), min_size=1, max_parts=100)]
    assert sizes == sorted(sizes, reverse=True) and 5 < len(sizes) <= 100


def test_a_part_is_proved_like_the_whole(bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "b.tar.zst").write_bytes(data)
    with open_bundle(tmp_path / "b.tar.zst", FAST) as opened:
        assert any(refused(opened, part) for part in parts_of(opened, opened.table(), min_size=1))


def refused(bundle: Bundle, part: Part) -> bool:
    try:
        for _, pieces in part.entries(bundle, lambda amount: None):
            b"".join(pieces)
    except IntegrityError as error:
        return "damaged at byte" in error.message
    return False
