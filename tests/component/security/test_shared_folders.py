"""Folders in which other users and processes write: what they put there is not followed, used or removed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envpack.bundle.cache.cache_files import VERSION, cache_facts, clear_cache
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.bundle.segment_adder import BundleSegmentAdder
from envpack.bundle.zipapp.runtime_zip import runtime_files, runtime_zip
from envpack.publish.local import publish
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify
from envpack.runtime.deployment.registry import register, registered
from envpack.runtime.errors import DestinationError, EnvpackError
from envpack.runtime.fs.paths import check_links
from envpack.runtime.report import Reporter
from support.small_prefix import SmallPrefix
from support.trees import snapshot

ANOTHER_USER = 12345


def an_environment(path: Path, content: str) -> Path:
    made = SmallPrefix(path)
    made.write("lib/data", content * 1000)
    return made.path


def test_the_cache_keeps_no_bundle_that_another_process_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (an_environment(tmp_path / name, name) for name in ("one", "two"))
    output, cache = tmp_path / "out.tar.gz", PackSettings(cache=tmp_path / "cache")
    really = BundleSegmentAdder.keep

    def late(adder: BundleSegmentAdder, path: Path) -> None:
        monkeypatch.setattr(BundleSegmentAdder, "keep", lambda *_: None)
        pack_prefix(two, path, settings=PackSettings(), reporter=Reporter())
        really(adder, path)

    monkeypatch.setattr(BundleSegmentAdder, "keep", late)
    pack_prefix(one, output, settings=cache, reporter=Reporter())
    assert cache_facts(tmp_path / "cache").bundles == 0
    assert list((tmp_path / "cache" / VERSION / "bundles").iterdir()) == []
    monkeypatch.setattr(BundleSegmentAdder, "keep", really)
    pack_prefix(one, output, settings=cache, reporter=Reporter())
    verify(output, reporter=Reporter())


def test_packs_to_one_output_at_once_leave_one_of_them(tmp_path: Path) -> None:
    environments = [an_environment(tmp_path / f"env{number}", f"{number}") for number in range(4)]
    output = tmp_path / "out.tar.gz"

    def pack(environment: Path) -> int:
        return pack_prefix(environment, output, settings=PackSettings(), reporter=Reporter()).size

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(pack, environments))
    verify(output, reporter=Reporter())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["env0", "env1", "env2", "env3", "out.tar.gz"]


def test_bundles_published_to_one_path_at_once_have_the_checksum_of_the_last(tmp_path: Path) -> None:
    def put(number: int) -> None:
        data = str(number).encode() * 1000
        finished = tmp_path / f"{number}"
        finished.write_bytes(data)
        publish(finished, tmp_path / "out.tar.gz", hashlib.sha256(data).hexdigest())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(64)))
    bundle = (tmp_path / "out.tar.gz").read_bytes()
    assert (tmp_path / "out.tar.gz.sha256").read_text() == f"{hashlib.sha256(bundle).hexdigest()}  out.tar.gz\n"


def test_a_folder_in_the_place_of_a_published_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "finished").write_bytes(b"1")
    (tmp_path / "out.tar.gz.sha256").mkdir()
    with pytest.raises(DestinationError, match=r"out\.tar\.gz\.sha256"):
        publish(tmp_path / "finished", tmp_path / "out.tar.gz", "0" * 64)


def test_files_that_are_no_entries_stay_in_the_folder_of_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVPACK_STATE", str(tmp_path))
    gone = tmp_path / "gone"
    register(gone, Reporter())
    for name in (".profile", "notes", "a" * 64):
        (tmp_path / name).write_text("/nowhere\n")
        os.utime(tmp_path / name, (0, 0))
    os.mkfifo(tmp_path / ("f" * 64))
    (tmp_path / ("e" * 64)).symlink_to(tmp_path / "notes")
    assert registered() == []
    assert {path.name for path in tmp_path.iterdir()} == {".profile", "notes", "a" * 64, "e" * 64, "f" * 64}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link that belongs to another user")
def test_links_of_other_users_in_the_cache_are_not_followed(tmp_path: Path) -> None:
    precious, cache = tmp_path / "precious", tmp_path / "cache"
    precious.mkdir()
    for name in ("file", "file.json"):
        (precious / name).write_text("{}")
    (cache / VERSION).mkdir(parents=True)
    for kind in ("bundles", "prefixes", "runtime"):
        (cache / VERSION / kind).symlink_to(precious)
        os.chown(cache / VERSION / kind, ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    environment = an_environment(tmp_path / "env", "x")
    runtime_files.cache_clear()
    runtime_zip.cache_clear()
    pack_prefix(environment, tmp_path / "o.tar.gz", settings=PackSettings(cache=cache), reporter=Reporter())
    clear_cache(cache)
    assert sorted(path.name for path in precious.iterdir()) == ["file", "file.json"]


def test_a_fifo_in_the_cache_is_not_waited_for(tmp_path: Path) -> None:
    environment, cache = an_environment(tmp_path / "env", "x"), tmp_path / "cache"
    settings = PackSettings(cache=cache)
    pack_prefix(environment, tmp_path / "o.tar.gz", settings=settings, reporter=Reporter())
    for file in (path for path in cache.rglob("*") if path.is_file()):
        file.unlink()
        os.mkfifo(file)
    runtime_files.cache_clear()
    runtime_zip.cache_clear()
    pack_prefix(environment, tmp_path / "o.tar.gz", settings=settings, reporter=Reporter())
    verify(tmp_path / "o.tar.gz", reporter=Reporter())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link that belongs to another user")
def test_links_on_the_way_to_an_output_are_followed_only_where_no_other_user_could_create_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "real").mkdir()
    for folder, mode in (("shared", 0o2775), ("shared/theirs", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "link").symlink_to(tmp_path / "real")
        os.chown(tmp_path / folder / "link", ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
        (tmp_path / folder).chmod(mode)
    os.chown(tmp_path / "shared/theirs", ANOTHER_USER, ANOTHER_USER)
    with pytest.raises(DestinationError, match="shared/link is a link of another user"):
        check_links(tmp_path / "shared/link/new/output")
    with pytest.raises(DestinationError, match="shared/theirs/link"):
        check_links(tmp_path / "shared/theirs/link/output")
    (tmp_path / "shared/own").symlink_to(tmp_path / "real")
    check_links(tmp_path / "shared/own/output")
    with pytest.raises(DestinationError, match="link of another user"):
        pack_prefix(
            an_environment(tmp_path / "env", "x"),
            tmp_path / "shared/link/o.tar.gz",
            settings=PackSettings(),
            reporter=Reporter(),
        )
    assert list((tmp_path / "real").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link that belongs to another user")
@pytest.mark.parametrize("command", ["remove", "rollback", "move", "repair"])
def test_commands_on_a_deployment_do_not_follow_links_of_other_users(command: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    bundle = tmp_path / "b.tar.gz"
    pack_prefix(an_environment(tmp_path / "env", "x"), bundle, settings=PackSettings(), reporter=Reporter())
    for _ in range(2):
        deploy(bundle, tmp_path / "mine/demo", reporter=Reporter())
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2775)
    (tmp_path / "shared/team").symlink_to(tmp_path / "mine")
    os.chown(tmp_path / "shared/team", ANOTHER_USER, ANOTHER_USER, follow_symlinks=False)
    place, before = tmp_path / "shared/team/demo", snapshot(tmp_path / "mine")
    calls: dict[str, Callable[[], object]] = {
        "remove": lambda: remove(place, reporter=Reporter()),
        "rollback": lambda: rollback(place, reporter=Reporter()),
        "move": lambda: move(place, tmp_path / "new", reporter=Reporter()),
        "repair": lambda: repair(place, bundle, reporter=Reporter()),
    }
    with pytest.raises(DestinationError, match="shared/team is a link of another user"):
        calls[command]()
    assert snapshot(tmp_path / "mine") == before


def test_a_deployment_has_the_mode_and_the_group_of_the_empty_folder_that_it_replaces(tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.gz"
    pack_prefix(an_environment(tmp_path / "env", "x"), bundle, settings=PackSettings(), reporter=Reporter())
    group = ANOTHER_USER if os.geteuid() == 0 else os.getegid()
    for name, mode in (("private", 0o700), ("team", 0o2750)):
        place = tmp_path / name
        place.mkdir()
        os.chown(place, -1, group)
        place.chmod(mode)
        deploy(bundle, place, reporter=Reporter())
        assert (place.stat().st_mode & 0o7777, place.stat().st_gid) == (mode, group)


def test_an_empty_folder_is_made_again_as_it_was_when_a_deployment_fails(tmp_path: Path) -> None:
    bundle, place = tmp_path / "b.tar.gz", tmp_path / "private"
    settings = PackSettings(test=("false",))
    pack_prefix(an_environment(tmp_path / "env", "x"), bundle, settings=settings, reporter=Reporter())
    place.mkdir()
    place.chmod(0o700)
    with pytest.raises(EnvpackError):
        deploy(bundle, place, reporter=Reporter())
    assert list(place.iterdir()) == [] and place.stat().st_mode & 0o7777 == 0o700
