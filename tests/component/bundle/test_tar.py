"""Entries: what other programs read in the headers that are written here."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from envpack.runtime.format import tar
from envpack.runtime.format.manifest import EPOCH, PathRecord, PathsTable
from envpack.runtime.format.paths_json import table_from_json
from support.paths_tables import table_to_json

RECORDS = [
    PathRecord("bin/x", "file", mode=0o755, size=3),
    PathRecord("n" * 100, "file", size=3),
    PathRecord("n" * 101, "file", size=3),
    PathRecord("/".join(["deep" * 20] * 12), "file", size=3),
    PathRecord("lib/\udcff\udcfe", "file", size=3),
    PathRecord("lib/ünïcode", "symlink", target="t" * 300),
    PathRecord("bin/y", "hardlink", mode=0o755, target="bin/x"),
    PathRecord("empty", "directory", mode=0o700),
]


def archive() -> bytes:
    parts = []
    for record in RECORDS:
        parts.append(tar.header(record))
        if record.type == "file":
            parts.append(b"abc" + bytes(tar.padding(3)))
    return b"".join(parts) + tar.END


def test_an_entry_depends_on_nothing_that_the_table_leaves_out() -> None:
    table = PathsTable({"a": tuple(record._replace(sha256="0" * 64) for record in RECORDS)})
    for written, read in zip(RECORDS, table_from_json(table_to_json(table)), strict=True):
        assert tar.header(read) == tar.header(written)


def test_python_reads_what_was_written() -> None:
    with tarfile.open(fileobj=io.BytesIO(archive())) as opened:
        members = opened.getmembers()
    assert [member.name for member in members] == [record.path for record in RECORDS]
    assert [member.linkname for member in members] == [record.target for record in RECORDS]
    assert [member.mode for member in members if member.isfile() or member.isdir()] == [
        record.mode for record in RECORDS if record.type in ("file", "directory")
    ]
    assert {member.mtime for member in members} == {EPOCH}
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}


def test_gnu_tar_unpacks_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(archive())
    done = subprocess.run(["tar", "-xf", "a.tar"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    assert (tmp_path / "bin/y").read_bytes() == b"abc"
    assert (tmp_path / "bin/y").stat().st_ino == (tmp_path / "bin/x").stat().st_ino
    assert (tmp_path / RECORDS[3].path).read_bytes() == b"abc"


@pytest.mark.parametrize("size", [0, 1, 8**11 - 1, 8**11, 1 << 40])
def test_sizes_beyond_octal_are_read_back(size: int) -> None:
    block = tar.header(PathRecord("big", "file", size=size))
    assert tarfile.TarInfo.frombuf(block, "utf-8", "strict").size == size
