"""Whether a path exists, and whether it is a folder: links are not followed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from envpack.runtime.fs.paths import exists, is_folder, remove_tree


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("folder")
    assert all(exists(tmp_path / name) for name in ("folder", "file", "dangling", "link"))
    assert [name for name in ("folder", "file", "dangling", "link") if is_folder(tmp_path / name)] == ["folder"]
    for path in (tmp_path / "nothing", tmp_path / "file" / "below", tmp_path / "nothing" / "below"):
        assert not exists(path) and not is_folder(path)


def test_a_name_that_can_t_be_looked_up_is_an_error(tmp_path: Path) -> None:
    """Callers replace what does not exist."""
    for function in (exists, is_folder):
        with pytest.raises(OSError, match="too long"):
            function(tmp_path / ("n" * 300))


def test_what_is_no_folder_is_unlinked_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").touch()
    for name in ("pipe", "link", "file"):
        remove_tree(tmp_path / name)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file"]


def test_a_folder_is_looked_up_through_links_and_errors_are_not_taken_for_absence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    names = ("folder", "link", "loop", "file", "none")
    assert [name for name in names if is_folder(tmp_path / name, follow=True)] == ["folder", "link"]
    assert not is_folder(tmp_path / "link") and not is_folder(Path("with\0nul"), follow=True)

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(PermissionError):
        is_folder(tmp_path / "folder", follow=True)
