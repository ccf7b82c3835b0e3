"""The journal of a prefix rewrite: what is on disk, and what an unreadable one means."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.runtime.tree.journal import Journal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".envpack").mkdir()
    return tmp_path


def test_its_file_is_what_earlier_versions_write(root: Path) -> None:
    journal = Journal(root)
    journal.write(True, ["/new", "/o\udcffld"])
    assert (root / ".envpack/settling").read_bytes() == b'{"settled": true, "prefixes": ["/new", "/o\\udcffld"]}'
    assert journal.exists()
    assert journal.read() == (True, ["/new", "/o\udcffld"])
    journal.remove()
    assert not journal.exists()


@pytest.mark.parametrize("data", [None, b"", b"[]", b"{}", b'{"settled": 1, "prefixes": 2}', b"\xff"])
def test_without_a_valid_one_nothing_is_known(root: Path, data: bytes | None) -> None:
    if data is not None:
        (root / ".envpack/settling").write_bytes(data)
    assert Journal(root).read() == (False, [])


def test_removing_what_does_not_exist_is_no_error(root: Path) -> None:
    Journal(root).remove()
