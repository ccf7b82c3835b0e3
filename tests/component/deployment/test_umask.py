"""Deployments that are changed under another umask than they were made under: the same users can use them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.report import Reporter
from support.sample_deployments import bundle, deploy_version, whole_version


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_mode & 0o7777 for path in folder.rglob("*")}


@pytest.mark.parametrize("made", [0o022, 0o027, 0o077])
@pytest.mark.parametrize("later", [0o022, 0o027, 0o077])
def test_what_is_repaired_is_as_open_as_the_deployment(tmp_path: Path, made: int, later: int) -> None:
    x = tmp_path / "x"
    with umask(made):
        deploy_version(tmp_path, "1")
    before = modes(x)
    assert before["bin/tool"] == 0o755 & ~made and before["lib/version"] == 0o644 & ~made
    for path in (*(x / "lib").iterdir(), x / "bin/tool", x / ".envpack/paths.json", x / ".envpack/prefix"):
        path.unlink()
    (x / "lib").rmdir()
    (x / "bin/activate").write_text("changed")
    with umask(later):
        repair(x, bundle(tmp_path, "1"), reporter=Reporter())
    assert whole_version(x) == "1"
    after = modes(x)
    after.pop(".envpack/lock")
    assert after == before


@pytest.mark.parametrize(("made", "later"), [(0o022, 0o077), (0o077, 0o022), (0o027, 0o022)])
def test_an_upgrade_is_as_open_as_the_deployment_before(tmp_path: Path, made: int, later: int) -> None:
    x, state = tmp_path / "x", tmp_path / ".x.envpack"
    with umask(made):
        deploy_version(tmp_path, "1")
    before = modes(x)
    with umask(later):
        deploy_version(tmp_path, "2")
        assert os.umask(later) == later
    assert modes(x) == {path.replace("-1", "-2"): mode for path, mode in before.items()}
    assert modes(state)["1"] == x.stat().st_mode & 0o777 == state.stat().st_mode & 0o777 == 0o755 & ~made
    with umask(later):
        rollback(x, reporter=Reporter())
    assert {path: mode for path, mode in modes(x).items() if path != ".envpack/lock"} == before
    assert state.stat().st_mode & 0o777 == 0o755 & ~made


def test_an_upgrade_is_not_writable_for_more_users_than_the_umask_allows(tmp_path: Path) -> None:
    x = tmp_path / "x"
    deploy_version(tmp_path, "1")
    (x / ".envpack").chmod(0o777)
    with umask(0o077):
        deploy_version(tmp_path, "2")
    assert {path for path, mode in modes(x).items() if mode & 0o022} == set()
    assert modes(x)["lib/version"] == 0o644
