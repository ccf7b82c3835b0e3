"""Places no environment may replace, whoever asks."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from envpack.runtime.commands.check import parse_policy
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.remove import remove
from envpack.runtime.deployment.protected_paths import CLOSED, SYSTEM, User, check_destination, current_user
from envpack.runtime.errors import DestinationError
from envpack.runtime.report import Reporter
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_root_does_not_deploy_below_a_folder_of_another_user(tmp_path: Path) -> None:
    SmallPrefix(tmp_path / "env").pack(tmp_path / "b.tar.gz")
    (tmp_path / "theirs/of-root").mkdir(parents=True)
    os.chown(tmp_path / "theirs", 12345, 12345)
    place = tmp_path / "theirs/of-root/new/x"
    with pytest.raises(DestinationError, match="belongs to the user 12345") as refused:
        deploy(tmp_path / "b.tar.gz", place, reporter=Reporter())
    assert "--allow parent-owner" in refused.value.hint
    assert list((tmp_path / "theirs/of-root").iterdir()) == []
    options = DeployOptions(policy=parse_policy(allow=["parent-owner"]))
    deploy(tmp_path / "b.tar.gz", place, options, reporter=Reporter())
    reporter = RecordingReporter()
    remove(place, force=True, reporter=reporter)
    assert [message for message in reporter.warnings if "belongs to the user 12345" in message]


@pytest.mark.skipif(os.geteuid() != 0, reason="others are not warned")
def test_root_is_warned_of_a_folder_that_all_may_write_to(tmp_path: Path) -> None:
    SmallPrefix(tmp_path / "env").pack(tmp_path / "b.tar.gz")
    (tmp_path / "open").mkdir()
    for mode, count in ((0o1777, 0), (0o777, 1)):
        (tmp_path / "open").chmod(mode)
        reporter = RecordingReporter()
        deploy(tmp_path / "b.tar.gz", tmp_path / "open/x", reporter=reporter)
        assert len([message for message in reporter.warnings if "writable for all" in message]) == count


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
