"""An environment that is more than readers take is refused when it is packed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.bundle.reader_limits import check_manifest, check_paths, check_table
from envpack.prefix.model import Entry, Group
from envpack.runtime.errors import IntegrityError, PackError
from envpack.runtime.format import limits, tree_rules
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.manifest_json import manifest_from_json
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.format.tree_rules import check_tree
from envpack.runtime.reader.bundle import open_bundle
from support.paths_tables import table_to_json
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

MARKS = ",:[{"


@pytest.fixture
def made(tmp_path: Path) -> SmallPrefix:
    return SmallPrefix(tmp_path / "prefix")


@contextmanager
def refused(made: SmallPrefix, output: Path, match: str, *, packing: bool) -> Iterator[PackError]:
    """Packing fails so, leaving nothing behind; ``packing``: whether it had begun to compress."""
    steps = RecordingReporter()
    with pytest.raises(PackError, match=match) as caught:
        made.pack(output / "b.tar.gz", steps)
    assert not output.exists() and ("Packing" in steps.steps) == packing
    assert "xclude" in caught.value.hint
    yield caught.value


def test_too_many_files_are_refused_before_anything_is_compressed(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        made.write(f"share/data/{number % 4}/{number}", "")
    monkeypatch.setattr(limits, "MAX_TABLE_VALUES", 15 * 80)
    with refused(made, tmp_path / "to", "101 files, .* can contain about 80 paths", packing=False) as error:
        assert error.details == ["100 of these 101 paths are in share/data/"]


def test_names_that_fill_the_table_are_refused_before_anything_is_compressed(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        made.write(f"{'long' * 50}/{number}", "")
    monkeypatch.setattr(limits, "MAX_TABLE", 40 * 200)
    with refused(made, tmp_path / "to", "41 files, .* can contain about 2. paths", packing=False):
        pass


def test_mentions_of_the_environment_that_fill_the_table_are_refused(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write("bin/mentions", f"{made.path}\n" * 20_000)
    monkeypatch.setattr(limits, "MAX_TABLE", 100_000)
    said = r"paths table would have 1\d\d,\d{3} bytes, but the limit is 100,000"
    with refused(made, tmp_path / "to", said, packing=True):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(limits, "MAX_TABLE_VALUES", 15_000)
    with refused(made, tmp_path / "to", r"would have 20,\d{3} values, but the limit is 15,000", packing=True):
        pass


def test_a_manifest_that_no_reader_takes_is_refused(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        made.write(f"share/{'name' * 10}/{number}", "")  # each is of no package, as the manifest says
    monkeypatch.setattr(limits, "MAX_MANIFEST", 15_000)
    with refused(made, tmp_path / "to", "manifest would have .* bytes, but the limit is 15,000", packing=True):
        pass


def test_links_that_no_reader_takes_are_refused(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made.write("lib/first", "x")
    for number in range(9):
        os.link(first, made.path / f"lib/{number}")
    monkeypatch.setattr(limits, "MAX_LINKS", 8)
    with refused(made, tmp_path / "to", "lib/0 has 9 hard links, .* bundle is 8", packing=False):
        pass
    monkeypatch.undo()
    made.link("lib/long", "a/" * 1024 + "b")
    with refused(made, tmp_path / "to", "lib/long is a link to a path of more than 2,048 bytes", packing=False):
        pass
    (made.path / "lib/long").unlink()
    made.link("lib/long", "a/" * 1023 + "bc")
    made.pack(tmp_path / "b.tar.gz")
    with open_bundle(tmp_path / "b.tar.gz", FAST) as bundle:
        assert any(record.path == "lib/long" for record in bundle.table())


def test_folders_are_counted_as_readers_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["a/b/c/1", "a/b/c/2", "a/b/3", "a/d/e/f", "4", "g/h"]
    table = PathsTable({"s": (*(PathRecord(path, "file") for path in paths), PathRecord("g/i", "directory"))})
    group = Group("s", None, (*(Entry(path, "file") for path in paths), Entry("g/i", "directory")))
    for most in range(9):
        monkeypatch.setattr(limits, "MAX_FOLDERS", most)
        monkeypatch.setattr(tree_rules, "MAX_FOLDERS", most)
        if most < 7:
            with pytest.raises(PackError, match=f"7 directories, but the limit of a bundle is {most}"):
                check_paths([group])
            with pytest.raises(IntegrityError, match="directories"):
                check_tree(table, ["s"])
        else:
            check_paths([group])
            check_tree(table, ["s"])


def test_what_is_refused_is_what_readers_refuse_and_no_more(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        made.write(f"share/{number}", f"{made.path}\n")
    made.link("share/link", "1")
    made.pack(tmp_path / "b.tar.gz")
    with open_bundle(tmp_path / "b.tar.gz", FAST) as bundle:
        table, manifest = table_to_json(bundle.table()), bundle.manifest_bytes
        paths = [(record.path, record.type) for record in bundle.table()]
    for what, data, check, read in (
        ("TABLE", table, check_table, table_from_json),
        ("MANIFEST", manifest, lambda data: check_manifest(data, len(data)), manifest_from_json),
    ):
        values = sum(data.decode().count(mark) for mark in MARKS)
        for name, most in ((f"MAX_{what}", len(data)), (f"MAX_{what}_VALUES", values)):
            monkeypatch.setattr(limits, name, most)
            check(data)
            read(data)
            monkeypatch.setattr(limits, name, most - 1)
            with pytest.raises(PackError, match=f"limit is {most - 1:,}"):
                check(data)
            with pytest.raises(IntegrityError):
                read(data)
            monkeypatch.undo()
    contents = [Group("s", None, tuple(Entry(path, type) for path, type in paths))]
    monkeypatch.setattr(limits, "MAX_TABLE", len(table))
    monkeypatch.setattr(limits, "MAX_TABLE_VALUES", sum(table.decode().count(mark) for mark in MARKS))
    check_paths(contents)  # the estimate is never more than what is written
