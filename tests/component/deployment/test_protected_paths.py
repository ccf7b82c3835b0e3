"""Places no environment may replace, whoever asks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.runtime.commands.check import parse_policy
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.deployment import exclusive as exclusive_module
from envpack.runtime.deployment.protected_paths import CLOSED, SYSTEM, User, check_destination, current_user
from envpack.runtime.errors import DestinationError
from envpack.runtime.report import Reporter
from envpack.runtime.store.store import open_store
from support.small_prefix import SmallPrefix
from support.trees import let_write, snapshot

ALICE = User(1000, ("/home/alice",))
ROOT = User(0, ("/root",))
SUDO = User(0, ("/home/alice", "/root"), ("/root",))


@pytest.mark.parametrize("user", [ALICE, ROOT])
@pytest.mark.parametrize("path", sorted(SYSTEM))
def test_the_system_s_folders_are_refused(path: str, user: User) -> None:
    with pytest.raises(DestinationError, match="system") as refused:
        check_destination(path, user)
    assert "/opt/envs/NAME" in refused.value.hint


@pytest.mark.parametrize("path", [f"{folder}/a/b" for folder in CLOSED])
def test_nothing_goes_below_what_is_the_system_s_own(path: str) -> None:
    with pytest.raises(DestinationError, match="reserved for the system"):
        check_destination(path, ROOT)


@pytest.mark.parametrize(
    ("path", "user", "said"),
    [
        ("/home/alice", ALICE, "is a home"),
        ("/data", User(1000, ("/data/users/alice",)), "contains the home directory /data/users/alice"),
        ("/data/root", User(1000, (), ("/data/root",)), "is a home"),
        ("/root/envs/x", ROOT, "the home directory of root"),
        ("/root/envs/x", SUDO, "the home directory of root"),
        ("/home/alice", SUDO, "is a home"),
    ],
)
def test_homes_are_refused(path: str, user: User, said: str) -> None:
    with pytest.raises(DestinationError, match=said):
        check_destination(path, user)


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("/opt/envs/x", ROOT),
        ("/opt/x", ALICE),
        ("/rooted/x", ROOT),
        ("/root/envs/x", ALICE),  # the kernel's to refuse
        ("/home/alice/envs", ALICE),
        ("/home/alice/envs", SUDO),
        ("/dev/shm/x", ALICE),
        ("/library", ALICE),
        ("/usr/local/envs", ROOT),
        ("/tmp/x", ALICE),
    ],
)
def test_all_other_places_are_taken(path: str, user: User) -> None:
    check_destination(path, user)


def test_this_user_s_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to("real")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    user = current_user()
    assert user.uid == os.geteuid()
    assert str(tmp_path / "real") in user.homes
    with pytest.raises(DestinationError, match="is a home"):
        check_destination(str(tmp_path / "real"), user)


@pytest.mark.parametrize("home", ["/", "", "relative", "/nonexistent"])
def test_an_account_without_a_home_may_deploy(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert not {home, "/", ""} & set(current_user().homes)
    check_destination("/opt/envs/x", current_user())


def _theirs(folder: Path) -> None:
    os.chown(folder, 12345, -1)


def _of_a_group(folder: Path) -> None:
    os.chown(folder, 0, 12345)
    folder.chmod(0o2775)


def _of_all(folder: Path) -> None:
    folder.chmod(0o777)


def _listed(folder: Path) -> None:
    let_write(folder, 12345)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_theirs, "belongs to the user 12345"),
        (_of_a_group, "is writable for the group 12345"),
        (_of_all, "is writable for all users"),
        (_listed, "is writable for the user 12345"),
    ],
)
def test_root_writes_nothing_where_other_users_could_replace_it(
    change: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    for version in "12":
        SmallPrefix(tmp_path / "env").pack(tmp_path / f"{version}.tar.gz", version=version)
    place, reporter = tmp_path / "theirs/of-root/x", Reporter()
    elsewhere, other = tmp_path / "elsewhere", tmp_path / "other"
    allowed = DeployOptions(policy=parse_policy(allow=["parent-owner"]))
    deploy(tmp_path / "1.tar.gz", place, reporter=reporter)
    deploy(tmp_path / "2.tar.gz", place, reporter=reporter)
    deploy(tmp_path / "1.tar.gz", other, reporter=reporter)
    change(tmp_path / "theirs")
    before = snapshot(tmp_path / "theirs")
    commands: list[Callable[[bool], object]] = [
        lambda any_parent: deploy(
            tmp_path / "1.tar.gz", place, allowed if any_parent else DeployOptions(), reporter=reporter
        ),
        lambda any_parent: rollback(place, reporter=reporter, any_parent=any_parent),
        lambda any_parent: repair(place, tmp_path / "2.tar.gz", reporter=reporter, any_parent=any_parent),
        lambda any_parent: move(place, elsewhere, reporter=reporter, any_parent=any_parent),
        lambda any_parent: move(elsewhere, place, reporter=reporter, any_parent=any_parent),
        lambda any_parent: remove(place, force=True, reporter=reporter, any_parent=any_parent),
    ]
    for command in commands:
        if command is not commands[4]:
            with pytest.raises(DestinationError, match=reason) as refused:
                command(False)
            assert "--allow parent-owner" in refused.value.hint
        if command is commands[0]:
            assert snapshot(tmp_path / "theirs") == before
        command(True)
    with pytest.raises(DestinationError, match=reason):
        move(other, place, reporter=reporter)
    with pytest.raises(DestinationError, match=reason):
        deploy(tmp_path / "1.tar.gz", tmp_path / "theirs/new/x", reporter=reporter)
    with pytest.raises(DestinationError, match=reason):
        open_store(tmp_path / "theirs/store")
    assert not (tmp_path / "theirs/new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="for root only")
def test_root_may_use_a_folder_that_all_may_write_to_with_the_sticky_bit(tmp_path: Path) -> None:
    SmallPrefix(tmp_path / "env").pack(tmp_path / "b.tar.gz")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    deploy(tmp_path / "b.tar.gz", tmp_path / "open/x", reporter=Reporter())
    (tmp_path / "open/theirs").mkdir()
    os.chown(tmp_path / "open/theirs", 12345, 12345)
    with pytest.raises(DestinationError, match="open/theirs belongs to the user 12345"):
        deploy(tmp_path / "b.tar.gz", tmp_path / "open/theirs/x", reporter=Reporter())


@pytest.mark.skipif(os.geteuid() != 0, reason="for root only")
def test_a_folder_that_another_user_creates_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SmallPrefix(tmp_path / "env").pack(tmp_path / "b.tar.gz")
    really = exclusive_module.make_folders

    def late(folder: Path, mode: int) -> list[Path]:
        folder.mkdir()
        os.chown(folder, 12345, 12345)
        return really(folder, mode)

    monkeypatch.setattr(exclusive_module, "make_folders", late)
    with pytest.raises(DestinationError, match="belongs to the user 12345"):
        deploy(tmp_path / "b.tar.gz", tmp_path / "new/x", reporter=Reporter())
    assert list((tmp_path / "new").iterdir()) == []


def test_root_may_use_its_own_home_when_it_says_so() -> None:
    check_destination("/root/envs/x", ROOT, root_home=True)
    with pytest.raises(DestinationError, match="is a system directory"):
        check_destination("/root", ROOT, root_home=True)
    assert parse_policy(allow=["root-home"]).allow == ("root_home",)


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/root", os.W_OK), reason="for root only")
def test_a_deployment_below_the_home_of_root(tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    made.pack(tmp_path / "b.tar.gz")
    with tempfile.TemporaryDirectory(dir="/root", prefix=".envpack-test-") as folder:
        with pytest.raises(DestinationError, match="the home directory of root") as refused:
            deploy(tmp_path / "b.tar.gz", Path(folder) / "x", reporter=Reporter())
        assert "--allow root-home" in refused.value.hint
        options = DeployOptions(policy=parse_policy(allow=["root-home"]))
        deploy(tmp_path / "b.tar.gz", Path(folder) / "x", options, reporter=Reporter())
        assert (Path(folder) / "x/conda-meta/history").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another group")
def test_in_a_user_namespace_users_and_groups_that_it_does_not_show_are_not_suspected(tmp_path: Path) -> None:
    way = ["unshare", "--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*way, "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces")
    place = tmp_path / "theirs"
    place.mkdir()
    os.chown(place, 0, 12345)
    place.chmod(0o2775)
    program = (
        "import sys, pathlib; from envpack.runtime.deployment.parents import replaceable; "
        "print(replaceable(pathlib.Path(sys.argv[1])))"
    )
    python = [sys.executable, "-c", program, str(place / "x")]
    assert b"is writable for the group 12345" in subprocess.run(python, check=True, capture_output=True).stdout
    assert subprocess.run([*way, *python], check=True, capture_output=True).stdout == b"\n"
