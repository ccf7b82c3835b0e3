"""What a user has changed in a deployment is found whatever became of it, and nothing else is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.bundle.model import Item
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.errors import DestinationError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.report import Reporter
from envpack.runtime.tree.local_changes import local_changes
from support.bundle_factory import file, link, make_bundle, text
from support.sample_deployments import deployed


def made(folder: Path, version: str) -> Path:
    path = folder / f"demo-{version}.tar.gz"
    items = [
        text("bin/tool", b"#!/bin/sh\necho @ " + version.encode() + b"\n", 0o755),
        Item(PathRecord("bin/same", "hardlink", target="bin/tool"), []),
        file("bin/activate", b"true\n"),
        file("etc/settings", version.encode()),
        file("lib/a", b"a"),
        link("ssl/cert.pem", "../etc/settings"),
        link("ssl/dangling", "nothing"),
        link("latest", "lib"),
        Item(PathRecord("share", "directory", 0o755), []),
        file("share/b", b"b"),
    ]
    make_bundle(path, {"environment": items}, name="demo", version=version)
    return path


@pytest.fixture
def x(tmp_path: Path) -> Path:
    deployed(made(tmp_path, "1"), tmp_path / "x")
    return tmp_path / "x"


def replaced(path: Path) -> Path:
    """Make room for something else at a path of the bundle."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return path


def by_a_file(path: Path) -> None:
    replaced(path).write_text("mine")


def by_a_link(path: Path) -> None:
    replaced(path).symlink_to("/etc")


def by_a_fifo(path: Path) -> None:
    os.mkfifo(replaced(path))


def by_a_socket(path: Path) -> None:
    replaced(path)
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def by_a_folder(path: Path) -> None:
    replaced(path).mkdir()
    (path / "mine").touch()


@pytest.mark.parametrize(
    ("path", "change", "found"),
    [
        ("ssl/cert.pem", by_a_file, "ssl/cert.pem"),
        ("ssl/cert.pem", by_a_link, "ssl/cert.pem"),
        ("ssl/dangling", by_a_file, "ssl/dangling"),
        ("ssl/dangling", by_a_folder, "ssl/dangling/mine"),
        ("latest", by_a_link, "latest"),
        ("bin/same", by_a_file, "bin/same"),
        ("bin/same", by_a_link, "bin/same"),
        ("lib", by_a_link, "lib"),
        ("share", by_a_link, "share"),
        ("share", by_a_file, "share"),
        ("lib/a", by_a_file, "lib/a"),
        ("lib/a", by_a_link, "lib/a"),
        ("lib/a", by_a_fifo, "lib/a"),
        ("lib/a", by_a_socket, "lib/a"),
        ("lib/a", by_a_folder, "lib/a/mine"),
    ],
)
def test_what_was_replaced_is_not_removed_unless_forced(
    x: Path, path: str, change: Callable[[Path], None], found: str
) -> None:
    change(x / path)
    assert list(local_changes(x)) == [found]
    with pytest.raises(DestinationError, match="nothing was removed") as refused:
        remove(x, reporter=Reporter())
    assert refused.value.details == [str(x / found)]
    assert os.path.lexists(x / found)
    remove(x, force=True, reporter=Reporter())
    assert not x.exists()


@pytest.mark.parametrize("change", [by_a_file, by_a_link, by_a_fifo])
def test_pruning_keeps_a_generation_with_a_replaced_link_and_goes_on(
    x: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    deployed(made(tmp_path, "2"), x, keep=9)
    change(x / "ssl/cert.pem")
    deployed(made(tmp_path, "3"), x, keep=9)
    deployed(made(tmp_path, "4"), x, keep=0)
    assert sorted(path.name for path in (tmp_path / ".x.envpack").iterdir() if path.name.isdecimal()) == ["2"]


def test_what_can_t_be_read_is_a_change(x: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "share":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(local_changes(x)) == ["share"]


def test_an_edit_through_one_name_of_a_file_is_found_at_both(x: Path) -> None:
    with (x / "bin/same").open("a") as opened:
        opened.write("# mine\n")
    assert list(local_changes(x)) == ["bin/same", "bin/tool"]


def test_nothing_is_found_where_nothing_was_changed(x: Path, tmp_path: Path) -> None:
    assert list(local_changes(x)) == []
    deployed(made(tmp_path, "2"), x)
    previous = tmp_path / ".x.envpack/1"
    assert list(local_changes(x)) == list(local_changes(previous)) == []
    move(x, tmp_path / "a longer name", reporter=Reporter())
    assert list(local_changes(tmp_path / "a longer name")) == []
    rollback(tmp_path / "a longer name", reporter=Reporter())
    assert list(local_changes(tmp_path / "a longer name")) == []
    deployed(made(tmp_path, "1"), tmp_path / "y", store=tmp_path / "store")
    assert list(local_changes(tmp_path / "y")) == []


def test_hard_links_that_were_copied_are_no_changes(x: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", "--preserve=mode", x, tmp_path / "copy"], check=True)
    assert not (tmp_path / "copy/bin/same").samefile(tmp_path / "copy/bin/tool")
    assert list(local_changes(tmp_path / "copy")) == []


def test_nothing_is_found_in_what_tar_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "-xzf", made(tmp_path, "1"), "-C", tmp_path / "x"], check=True)
    assert list(local_changes(tmp_path / "x")) == []
