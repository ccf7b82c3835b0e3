"""Deployments of a user that root changes: all that root writes in them is the user's, who goes on with them."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.commands.check import parse_policy
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.fs.copy import give_tree
from envpack.runtime.fs.io import READ_FOLDER
from envpack.runtime.host.stamp import keep_stamp
from envpack.runtime.report import Reporter
from envpack.runtime.service.starts import record_start
from faults.planted import run_as
from support.bundle_factory import file, make_bundle, text

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes deployments of other users")
USER = 12346
RECORD = b'{"name": "demo", "files": [{"_path": "bin/tool", "path_type": "hardlink"}]}'
POLICY = parse_policy(allow=["parent-owner"])


def bundle(folder: Path, version: str) -> Path:
    path = folder / f"demo-{version}.tar.gz"
    if not path.exists():
        items = [
            text("bin/tool", b"#!/bin/sh\necho @ " + version.encode() + b"\n", 0o755),
            file("conda-meta/demo-1-0.json", RECORD),
            file("lib/deep/version", version.encode()),
        ]
        make_bundle(path, {"environment": items}, name="demo", version=version)
    return path


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory of the user, with a deployment; what root creates from now on is for root alone."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        os.chown(folder, USER, USER)
        folder.chmod(0o755)
        deployed(folder, "1")
        bundle(folder, "2")
        give(folder)
        before = os.umask(0o077)
        try:
            yield folder
        finally:
            os.umask(before)


def give(folder: Path) -> None:
    for path in folder.rglob("*"):
        os.chown(path, USER, USER, follow_symlinks=False)


def deployed(home: Path, version: str, **settings: Any) -> int:
    options = DeployOptions(policy=POLICY, jobs=2, **settings)
    return deploy(bundle(home, version), home / "x", options, reporter=Reporter()).generation


def facts(home: Path) -> tuple[set[str], set[str]]:
    """Return the paths that are not the user's, and those that only the owner can read."""
    paths = {str(path.relative_to(home)): path.lstat() for path in home.rglob("*")}
    foreign = {path for path, status in paths.items() if (status.st_uid, status.st_gid) != (USER, USER)}
    closed = {path for path, status in paths.items() if not status.st_mode & stat.S_IROTH}
    return foreign, {path for path in closed if Path(path).name not in ("lock", "check", "serve.json", "runs")}


def test_what_root_repairs_is_the_user_s(home: Path, tmp_path: Path) -> None:
    x = home / "x"
    for path in (x / "lib/deep/version", x / "conda-meta/demo-1-0.json", x / ".envpack/manifest.json"):
        path.unlink()
    (x / "lib/deep").rmdir()
    (x / "bin/tool").write_text("changed")
    (x / ".envpack/prefix").unlink()
    assert len(repair(x, bundle(home, "1"), reporter=Reporter(), any_parent=True).mended) == 4
    assert b"sha256_in_prefix" in (x / "conda-meta/demo-1-0.json").read_bytes()
    assert facts(home) == (set(), set())
    (x / "bin/tool").unlink()

    def work() -> int:
        return len(repair(x, bundle(home, "1"), reporter=Reporter()).mended)

    assert run_as(USER, work, tmp_path / "said") == 1, (tmp_path / "said").read_text()


def test_an_upgrade_and_a_rollback_by_root_leave_the_deployment_to_its_user(home: Path, tmp_path: Path) -> None:
    x = home / "x"
    assert deployed(home, "2") == 2
    assert facts(home) == (set(), set())
    rollback(x, reporter=Reporter(), any_parent=True)
    assert facts(home) == (set(), set())
    move(x, home / "y", reporter=Reporter(), any_parent=True)
    assert facts(home) == (set(), set())
    move(home / "y", x, reporter=Reporter(), any_parent=True)

    def work() -> int:
        rollback(x, to=2, reporter=Reporter())
        generation = deployed(home, "1")
        remove(x, reporter=Reporter())
        return generation

    assert run_as(USER, work, tmp_path / "said") == 3, (tmp_path / "said").read_text()
    assert sorted(path.name for path in home.iterdir()) == ["demo-1.tar.gz", "demo-2.tar.gz"]


def test_the_records_of_starts_and_checks_are_the_user_s(home: Path) -> None:
    x = home / "x"
    record_start(x, "serve", 1, time.time())
    assert keep_stamp(x, "digest", "digest of a host", {}) == x / ".envpack/check"
    assert (x / ".envpack/runs/serve.json").exists()
    assert facts(home) == (set(), set())


def test_the_state_directory_beside_a_deployment_in_root_s_directory_stays_root_s(home: Path) -> None:
    os.chown(home, 0, 0)
    deployed(home, "2")
    assert facts(home)[0] == {".x.envpack", ".x.envpack/lock"}
    rollback(home / "x", reporter=Reporter(), any_parent=True)


def test_files_of_a_store_and_targets_of_links_are_not_given_away(tmp_path: Path) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    (tree / "folder").mkdir(parents=True)
    (tree / "own").touch()
    (tree / "folder/same").hardlink_to(tree / "own")
    outside.mkdir()
    (outside / "stored").touch()
    (tree / "stored").hardlink_to(outside / "stored")
    (tree / "link").symlink_to(outside)
    (tree / "folder/link").symlink_to(outside / "stored")
    owner = os.stat_result((0, 0, 0, 0, USER, USER, 0, 0, 0, 0))
    folder = os.open(tree, READ_FOLDER)
    give_tree(folder, owner)
    os.close(folder)
    kept = {path for path in (tree, *tree.rglob("*"), outside) if path.lstat().st_uid != USER}
    assert kept == {tree / "stored", outside} and (outside / "stored").stat().st_uid == 0
