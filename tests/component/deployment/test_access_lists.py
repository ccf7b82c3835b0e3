"""Deployments in folders with access control lists (acl(5)), whose default list takes the place of the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify
from envpack.runtime.fs.io import access_list
from envpack.runtime.report import Reporter
from support.sample_deployments import bundle, deploy_version, deployed, whole_version
from support.trees import let_write, set_list

WRITABLE = stat.S_IWGRP | stat.S_IWOTH
OWNER_ONLY = [(0x01, 7, -1), (0x04, 0, -1), (0x20, 0, -1)]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A folder of this user's; umask 022."""
    folder = tmp_path / "shared"
    folder.mkdir(0o755)
    folder.chmod(0o755)
    before = os.umask(0o022)
    try:
        yield folder
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the modes of everything below a folder but links; with a list, the group's bits are its mask."""
    return {
        str(path.relative_to(folder)): path.stat().st_mode for path in folder.rglob("*") if not path.is_symlink()
    }


@pytest.mark.parametrize("with_store", [False, True])
def test_a_default_list_lets_nobody_write_what_the_umask_withholds(
    tmp_path: Path, shared: Path, with_store: bool
) -> None:
    """The prefix and the record in .envpack above all: the next command of the owner reads them."""
    let_write(shared, 4242, default=True)
    store = shared / "store" if with_store else None
    steps = [
        lambda: deployed(bundle(tmp_path, "1"), shared / "x", store),
        lambda: deployed(bundle(tmp_path, "2"), shared / "x", store),
        lambda: rollback(shared / "x", reporter=Reporter()),
        lambda: move(shared / "x", shared / "y", reporter=Reporter()),
    ]
    for step in steps:
        step()
        assert {path: oct(mode) for path, mode in modes(shared).items() if mode & WRITABLE} == {}
    assert whole_version(shared / "y") == "1"
    verified = verify(shared / "y", reporter=Reporter())
    assert not (verified.changed or verified.missing)
    remove(shared / "y", reporter=Reporter())


def test_a_default_list_that_withholds_more_than_the_umask_is_kept(tmp_path: Path, shared: Path) -> None:
    set_list(shared, OWNER_ONLY, default=True)
    deploy_version(tmp_path, "1", shared / "x")
    deploy_version(tmp_path, "2", shared / "x")
    assert {path: oct(mode) for path, mode in modes(shared / "x").items() if mode & 0o077} == {}
    assert (shared / "x").stat().st_mode & 0o077 == 0


def test_an_upgrade_keeps_the_list_of_its_directory(tmp_path: Path, shared: Path) -> None:
    """Without it, the group has what was the mask of the list."""
    x = shared / "x"
    deploy_version(tmp_path, "1", x)
    set_list(x, [(0x01, 7, -1), (0x02, 5, 4242), (0x04, 0, -1), (0x10, 5, -1), (0x20, 0, -1)])
    before = (x.stat().st_mode, access_list(x))
    deploy_version(tmp_path, "2", x)
    assert (x.stat().st_mode, access_list(x)) == before
    assert whole_version(x) == "2"
