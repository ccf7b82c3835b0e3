"""Deployments in conda's list of environments, ~/.conda/environments.txt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.errors import DeploymentTestError
from envpack.runtime.report import Reporter
from support.small_prefix import SmallPrefix


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The list of a user who has one environment elsewhere; its last line has no end."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CONDA_REGISTER_ENVS")
    place = tmp_path / "home/.conda/environments.txt"
    place.parent.mkdir(parents=True)
    place.write_text("/opt/other")
    place.chmod(0o600)
    return place


def deployed(folder: Path) -> Path:
    return SmallPrefix(folder / "env").moved(folder)


def test_deploy_move_rollback_and_remove(listed: Path, tmp_path: Path) -> None:
    x, y = deployed(tmp_path / "a"), tmp_path / "y"
    assert listed.read_text() == f"/opt/other\n{x}\n"
    assert deployed(tmp_path / "a") == x
    rollback(x, to=None, reporter=Reporter())
    assert listed.read_text() == f"/opt/other\n{x}\n"
    move(x, y, reporter=Reporter())
    assert listed.read_text() == f"/opt/other\n{y}\n"
    assert listed.stat().st_mode & 0o777 == 0o600
    remove(y, reporter=Reporter())
    assert listed.read_text() == "/opt/other\n"
    assert list(listed.parent.iterdir()) == [listed]


def test_a_deployment_whose_test_fails_is_not_listed(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(DeploymentTestError):
        SmallPrefix(tmp_path / "env").moved(tmp_path, test=("false",))
    assert listed.read_text().splitlines() == ["/opt/other"]


def test_a_list_that_is_a_link_stays_one(listed: Path, tmp_path: Path) -> None:
    real = listed.rename(tmp_path / "environments")
    listed.symlink_to(real)
    x = deployed(tmp_path / "a")
    remove(x, reporter=Reporter())
    assert listed.is_symlink() and real.read_text() == "/opt/other\n"


def test_a_user_without_a_list_gets_none(listed: Path, tmp_path: Path) -> None:
    listed.unlink()
    deployed(tmp_path / "a")
    assert not listed.exists()


@pytest.mark.parametrize("kind", ["folder", "fifo", "others write it", "refused"])
def test_what_is_no_list_of_the_user_s_own_is_left_alone(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "others write it":
        listed.chmod(0o666)
    elif kind == "refused":
        monkeypatch.setenv("CONDA_REGISTER_ENVS", "False")
    else:
        listed.unlink()
        listed.mkdir() if kind == "folder" else os.mkfifo(listed)
    x = deployed(tmp_path / "a")
    remove(x, reporter=Reporter())
    assert not listed.is_file() or listed.read_text() == "/opt/other"
