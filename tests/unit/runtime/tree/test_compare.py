"""Differences between a path and its record that its type shows, and the folders of a paths table."""

from __future__ import annotations

import pytest

from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.tree.compare import MISSING, classify, folders_of


@pytest.mark.parametrize(
    ("type", "kind", "found"),
    [
        ("file", "f", ""),
        ("file", "d", "a directory, not a file"),
        ("file", "l", "a symbolic link, not a file"),
        ("file", "o", "a special file, not a file"),
        ("file", None, MISSING),
        ("hardlink", "f", ""),
        ("hardlink", "l", "a symbolic link, not a file"),
        ("directory", "d", ""),
        ("directory", "f", "a file, not a directory"),
        ("directory", None, MISSING),
        ("symlink", "l", ""),
        ("symlink", "f", "a file, not a symbolic link"),
    ],
)
def test_a_path_differs_by_its_kind(type: str, kind: str | None, found: str) -> None:
    assert classify(PathRecord("a", type, target="b"), kind) == found


def test_the_folders_of_a_table_include_those_without_a_record() -> None:
    records = (PathRecord("a/b/c", "file"), PathRecord("d", "directory"), PathRecord("e", "file"))
    assert folders_of(PathsTable({"environment": records}, {})) == {"a/b", "a", "d"}
