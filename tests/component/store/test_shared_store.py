"""The shared store: what is there is not read again, is shared and never changed; what nothing uses goes; and
whatever is killed leaves nothing half."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.bundle.model import Item
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.remove import remove
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify_deployment
from envpack.runtime.deployment.record import read_record
from envpack.runtime.errors import DestinationError, FormatError, IntegrityError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs import links as share
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.report import Reporter
from envpack.runtime.store.gc import Collected, collect
from envpack.runtime.store.ingest import SegmentIngest
from envpack.runtime.store.store import Store, follow, open_store
from support.bundle_factory import PLACEHOLDER, file, link, make_bundle, text
from support.namespaces import cloning_filesystem
from support.reporters import RecordingReporter
from support.sample_deployments import deployed
from support.trees import contents

NUMPY = [
    text("bin/f2py", b"#!/bin/sh\necho @ f2py\n", 0o755),
    file("lib/numpy/core.py", b"core = 1\n"),
    file("lib/numpy/core.so", os.urandom(70_000), 0o755),
    Item(PathRecord("lib/numpy/again.so", "hardlink", target="lib/numpy/core.so")),
    link("lib/numpy/latest", "core.so"),
    file("lib/numpy/none", b""),
    Item(PathRecord("share/empty", "directory", mode=0o755)),
]
ACTIVATE = [file("bin/activate", b"true\n")]


def demo(version: int) -> list[Item]:
    return [file("lib/demo.py", b"version = %d\n" % version), text("etc/demo", b"@ %d\n" % version)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for version, name in ((1, "1.tar.gz"), (2, "2.tar.gz"), (2, "2.tar.zst")):
        segments = {"conda:numpy": NUMPY, "runtime": ACTIVATE, f"pypi:demo-{version}": demo(version)}
        make_bundle(folder / name, segments, version=str(version))
    return folder


@pytest.fixture
def bundles(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "bundles"))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def whole(root: Path) -> None:
    found = verify_deployment(root, reporter=Reporter(), jobs=1)
    assert (found.changed, found.missing, found.extra) == ((), (), ())


def collected(store: Path, dry_run: bool = False) -> Collected:
    return collect(store, reporter=Reporter(), dry_run=dry_run)


def segments(store: Path) -> set[str]:
    return {path.name for path in (store / "1/segments").glob("*/*")}


def destroyed(bundle: Path, *, but: str = "") -> None:
    """Every byte behind the head, those of one segment apart."""
    data = bytearray(bundle.read_bytes())
    with open_bundle(bundle, FAST) as opened:
        for located in opened.frames():
            if located.segment != but:
                data[located.offset : located.offset + located.frame.stored] = bytes(located.frame.stored)
    bundle.write_bytes(data)


# --- sharing ---


def test_a_second_deployment_reads_only_the_head(bundles: Path, tmp_path: Path, store: Path) -> None:
    first = deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    assert first.read > 0 and first.store == str(store)
    destroyed(bundles / "1.tar.gz")
    second = deployed(bundles / "1.tar.gz", tmp_path / "b", store)
    assert second.read == 0
    whole(tmp_path / "a")
    whole(tmp_path / "b")
    record = read_record(tmp_path / "b")
    assert record is not None and record.store == str(store)


def test_it_is_what_it_is_without_a_store(bundles: Path, tmp_path: Path, store: Path) -> None:
    roots = []
    for name, folder in (("plain", None), ("filling", store), ("filled", store)):
        root = tmp_path / name / "env"
        root.parent.mkdir()
        deploy(bundles / "1.tar.gz", root, DeployOptions(store=folder), reporter=Reporter())
        roots.append(root.rename(tmp_path / name / "moved"))
    expected = {path: data.replace(b"plain", b"X") for path, data in contents(roots[0], own=False).items()}
    for name, root in zip(("filling", "filled"), roots[1:], strict=True):
        found = contents(root, own=False)
        assert {path: data.replace(name.encode(), b"X") for path, data in found.items()} == expected
        assert (root / "lib/numpy/core.so").samefile(root / "lib/numpy/again.so")


def test_an_upgrade_reads_just_the_changed_package_whatever_the_codec(
    bundles: Path, tmp_path: Path, store: Path
) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    destroyed(bundles / "2.tar.zst", but="pypi:demo-2")
    done = deployed(bundles / "2.tar.zst", tmp_path / "a", store)
    with open_bundle(bundles / "2.tar.zst", FAST) as opened:
        (changed,) = [segment for segment in opened.manifest.segments if segment.id == "pypi:demo-2"]
    assert done.read == changed.stored
    assert (tmp_path / "a/lib/demo.py").read_text() == "version = 2\n"
    whole(tmp_path / "a")


def test_files_without_a_place_in_them_are_shared_and_read_only(
    bundles: Path, tmp_path: Path, store: Path
) -> None:
    for name in "ab":
        deployed(bundles / "1.tar.gz", tmp_path / name, store)
    for path, shared in (("lib/numpy/core.so", True), ("lib/demo.py", True), ("bin/f2py", False)):
        one, other = ((tmp_path / name / path).stat() for name in "ab")
        if _clones(tmp_path):
            assert one.st_ino != other.st_ino
            continue
        assert (one.st_ino == other.st_ino) is shared, path
        assert bool(one.st_mode & 0o222) is not shared
        assert bool(one.st_mode & 0o111) is path.endswith((".so", "f2py"))
    stored = [path for path in (store / "1/segments").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in stored} == {0o444, 0o555}


# --- binaries with a prefix written in ---

LIBRARY = b"\x7fELF" + PLACEHOLDER + b"/lib\0" + bytes(99)
NATIVE = [
    file("lib/native.so", LIBRARY, 0o755, Relocation(PLACEHOLDER, padded=(4,))),
    file("lib/other.so", LIBRARY + b"2", 0o755, Relocation(PLACEHOLDER, strings=((4, 4 + len(PLACEHOLDER)),))),
    file("lib/plain.so", LIBRARY[:4], 0o755),
    file("lib/native.py", b"import plain\n"),
    text("etc/native.conf", b"root = @\n"),
]


@pytest.fixture
def native(tmp_path: Path) -> Path:
    """Two bundles that share a package of such files."""
    for version in "12":
        segments = {"conda:native": NATIVE, f"pypi:demo-{version}": demo(int(version))}
        make_bundle(tmp_path / f"{version}.tar.gz", segments, version=version, longest_prefix=len(PLACEHOLDER))
    return tmp_path


def test_each_deployment_has_its_own_files_with_a_prefix(native: Path, store: Path) -> None:
    for name in "ab":
        deployed(native / "1.tar.gz", native / name, store)
        whole(native / name)
        for path in ("lib/native.so", "lib/other.so"):
            found = native / name / path
            assert str(native / name).encode() in found.read_bytes()
            assert found.stat().st_nlink == 1 and found.stat().st_mode & 0o777 == 0o755
    assert len(segments(store)) == 2


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The deployment ``a`` of native-2, native-1 before, that commit a8ce372 made with the store ``store``.

    The binaries with the prefix of ``a`` are in the store too, which later versions have no use for.
    """
    archive = Path(__file__).parents[2] / "data/earlier/native/a8ce372.tar.gz"
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path, "./native"], check=True)
    store = Store(tmp_path / "native/store")
    (made_at,) = store.roots.iterdir()
    root = store.root(made_at)
    assert root is not None
    store.write_root(tmp_path / "native/a", root[1])  # as if it had been made in this folder
    return tmp_path / "native"


def prefixed(store: Path) -> set[str]:
    return {name for name in segments(store) if "-" in name}


def test_files_with_a_prefix_of_an_earlier_version_stay_while_they_are_registered(earlier: Path) -> None:
    store, root = earlier / "store", earlier / "a"
    assert len(prefixed(store)) == 1
    assert collected(store).removed == 0
    assert deployed(earlier / "native-2.tar.gz", root, store).read == 0
    whole(root)
    assert (collected(store).removed, prefixed(store)) == (2, set())  # of native-1, too
    rollback(root, reporter=Reporter())
    whole(root)


def test_files_with_a_prefix_of_an_earlier_version_go_with_the_deployment(earlier: Path) -> None:
    store = earlier / "store"
    follow(str(store), earlier / "a", earlier / "b")
    assert Store(store).root(Store(store).root_file(earlier / "b")) is not None
    remove(earlier / "a", reporter=Reporter())
    assert collected(store, dry_run=True).removed == 4
    done = collected(store)
    assert (done.removed, done.kept, segments(store)) == (4, 0, set())


def _clones(folder: Path) -> bool:
    (folder / "one").write_bytes(b"x")
    with (folder / "one").open("rb") as one, (folder / "two").open("wb") as two:
        try:
            fcntl.ioctl(two, share.FICLONE, one.fileno())
        except OSError:
            return False
    return True


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another filesystem."""
    shm = Path("/dev/shm")
    if not shm.is_dir() or not os.access(shm, os.W_OK):
        pytest.skip("there is no /dev/shm")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


def test_a_store_on_another_filesystem_is_copied_from(bundles: Path, tmp_path: Path, elsewhere: Path) -> None:
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not a separate filesystem")
    for name in "ab":
        deployed(bundles / "1.tar.gz", tmp_path / name, elsewhere / "store")
        whole(tmp_path / name)
    assert (tmp_path / "a/lib/numpy/core.so").stat().st_nlink == 2  # of its own hard link
    assert (tmp_path / "a/lib/numpy/core.py").stat().st_mode & 0o777 == 0o644


def test_files_are_cloned_where_the_filesystem_can(bundles: Path, tmp_path: Path) -> None:
    with cloning_filesystem(tmp_path) as mount:
        for name in "ab":
            deployed(bundles / "1.tar.gz", mount / name, mount / "store")
            whole(mount / name)
        one, other = ((mount / name / "lib/demo.py").stat() for name in "ab")
        assert one.st_ino != other.st_ino and one.st_nlink == 1 and one.st_mode & 0o777 == 0o644
        (mount / "a/lib/demo.py").write_text("mine")
        whole(mount / "b")


@pytest.mark.parametrize("fails", [(), ("clone",), ("clone", "link")])
def test_clones_then_links_then_copies_by_what_the_system_answers(
    bundles: Path, tmp_path: Path, store: Path, fails: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(out: int, request: int, data: int) -> int:
        assert request == 0x40049409
        if "clone" in fails:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return os.sendfile(out, data, 0, 1 << 30)

    real: Callable[..., None] = os.link

    def refused(source: bytes, target: bytes, **how: bool) -> None:
        if b"/store/" in source:
            raise OSError(errno.EPERM, "not permitted")
        real(source, target, **how)  # a hard link of the environment's own

    monkeypatch.setattr(fcntl, "ioctl", clone)
    if "link" in fails:
        monkeypatch.setattr(os, "link", refused)
    for name in "ab":
        deployed(bundles / "1.tar.gz", tmp_path / name, store)
        whole(tmp_path / name)
    shared = (tmp_path / "a/lib/demo.py").samefile(tmp_path / "b/lib/demo.py")
    assert shared is (fails == ("clone",))


@pytest.mark.parametrize("every", [1, 2])
def test_a_file_of_too_many_names_is_copied(
    native: Path, store: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    deployed(native / "1.tar.gz", native / "a", store)
    real: Callable[..., None] = os.link
    calls = 0

    def linked(source: bytes, target: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls % every == 0:
            raise OSError(errno.EMLINK, "too many links")
        real(source, target)

    monkeypatch.setattr(fcntl, "ioctl", clone)
    monkeypatch.setattr(os, "link", linked)
    deployed(native / "2.tar.gz", native / "a", store)
    assert calls > 2
    whole(native / "a")


# --- damage ---


def test_a_stored_file_written_to_by_force_is_found_and_not_used_again(
    bundles: Path, tmp_path: Path, store: Path
) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    stored = next(path for path in store.rglob("*") if path.is_file() and path.read_bytes() == b"core = 1\n")
    stored.chmod(0o644)
    stored.write_text("core = 2\n")
    stored.chmod(0o444)
    if not _clones(tmp_path):
        found = verify_deployment(tmp_path / "a", reporter=Reporter())
        assert [item.path for item in found.changed] == ["lib/numpy/core.py"]
    done = deployed(bundles / "1.tar.gz", tmp_path / "b", store)
    assert done.read > 0
    whole(tmp_path / "b")
    assert collected(store).removed == 1
    assert deployed(bundles / "1.tar.gz", tmp_path / "c", store).read > 0
    assert deployed(bundles / "1.tar.gz", tmp_path / "d", store).read == 0
    whole(tmp_path / "d")


def test_a_stored_file_that_is_gone_is_noticed(bundles: Path, tmp_path: Path, store: Path) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    next(path for path in store.rglob("*") if path.is_file() and path.read_bytes() == b"core = 1\n").unlink()
    deployed(bundles / "1.tar.gz", tmp_path / "b", store)
    whole(tmp_path / "b")


def test_a_bundle_can_t_put_other_bytes_under_a_key(tmp_path: Path, store: Path) -> None:
    """Two bundles say the same of a package; one of them has something else in its frames."""
    good = file("lib/x", b"12345")
    make_bundle(tmp_path / "good.tar.gz", {"conda:x": [good]})
    make_bundle(tmp_path / "evil.tar.gz", {"conda:x": [Item(good.record, [b"54321"])]})
    with pytest.raises(IntegrityError, match="'lib/x' does not match its digest"):
        deployed(tmp_path / "evil.tar.gz", tmp_path / "a", store)
    assert segments(store) == set()
    assert list((store / "1/work").iterdir()) == []
    deployed(tmp_path / "good.tar.gz", tmp_path / "a", store)
    assert (tmp_path / "a/lib/x").read_bytes() == b"12345"


def test_a_damaged_bundle_leaves_nothing_in_the_store(bundles: Path, tmp_path: Path, store: Path) -> None:
    destroyed(bundles / "1.tar.gz", but="conda:numpy")
    with pytest.raises(IntegrityError):
        deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    assert not (tmp_path / "a").exists()
    assert [path for path in (store / "1/work").iterdir() if path.is_dir()] == []
    for path in store.rglob("*"):
        assert not path.is_file() or path.suffix in (".json", ".lock") or path.name == "lock", path


def test_keys_depend_on_what_a_segment_has_and_on_nothing_else(bundles: Path) -> None:
    def keys(name: str) -> dict[str, str]:
        with open_bundle(bundles / name, FAST) as opened:
            return {id: key for id, key in opened.table().digests.items() if id != "end"}

    assert keys("2.tar.gz") == keys("2.tar.zst")
    one, two = keys("1.tar.gz"), keys("2.tar.gz")
    assert one["conda:numpy"] == two["conda:numpy"] and one["pypi:demo-1"] != two["pypi:demo-2"]
    assert "end" not in one


def test_a_repair_takes_the_changed_file_of_the_store_out_of_use_too(
    bundles: Path, tmp_path: Path, store: Path
) -> None:
    """Also where time and size hide the change."""
    if _clones(tmp_path):
        pytest.skip("this filesystem clones files instead of linking them")
    for name in "ab":
        deployed(bundles / "1.tar.gz", tmp_path / name, store)
    changed = tmp_path / "a/lib/numpy/core.py"
    before = changed.stat()
    changed.chmod(0o644)
    changed.write_text("core = 2\n")
    changed.chmod(0o444)
    os.utime(changed, ns=(before.st_mtime_ns, before.st_mtime_ns))
    reporter = RecordingReporter()
    repair(tmp_path / "a", bundles / "1.tar.gz", reporter=reporter)
    assert len(reporter.warnings) == 1 and "lib/numpy/core.py is also changed in the store" in reporter.warnings[0]
    whole(tmp_path / "a")
    assert not verify_deployment(tmp_path / "b", reporter=Reporter()).whole
    repair(tmp_path / "b", bundles / "1.tar.gz", reporter=Reporter())
    whole(tmp_path / "b")
    assert deployed(bundles / "1.tar.gz", tmp_path / "c", store).read > 0
    whole(tmp_path / "c")
    assert collected(store).removed == 1


# --- gc ---


def test_segments_of_current_and_previous_generations_stay(bundles: Path, tmp_path: Path, store: Path) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    deployed(bundles / "2.tar.gz", tmp_path / "a", store)  # keeps 1
    deployed(bundles / "2.tar.gz", tmp_path / "b", store)
    assert len(segments(store)) == 4
    assert collected(store).removed == 0
    rollback(tmp_path / "a", reporter=Reporter())
    assert collected(store).removed == 0
    whole(tmp_path / "a")
    deployed(bundles / "2.tar.gz", tmp_path / "a", store, keep=0)
    would = collected(store, dry_run=True)
    assert (would.removed, len(segments(store))) == (1, 4)
    done = collected(store)
    assert (done.removed, done.kept, done.freed) == (1, 3, would.freed)
    assert len(segments(store)) == 3
    shutil.rmtree(tmp_path / "a")
    done = collected(store)
    assert (done.removed, done.deployments, done.forgotten) == (0, (str(tmp_path / "b"),), (str(tmp_path / "a"),))
    shutil.rmtree(tmp_path / "b")
    done = collected(store)
    assert (done.removed, done.kept, done.deployments) == (3, 0, ())
    assert segments(store) == set() and list((store / "1/roots").iterdir()) == []
    assert done.freed > 70_000


def test_a_deployment_that_was_moved_by_hand_loses_sharing_and_no_file(
    bundles: Path, tmp_path: Path, store: Path
) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    (tmp_path / "a").rename(tmp_path / "moved")
    done = collected(store)
    assert done.removed == 3
    if not _clones(tmp_path):
        assert done.freed < 70_000  # the disk still holds what the deployment uses
    whole(tmp_path / "moved")


def test_a_deployment_that_envpack_moved_still_shares_files(bundles: Path, tmp_path: Path, store: Path) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    move(tmp_path / "a", tmp_path / "b", reporter=Reporter())
    done = collected(store)
    assert (done.removed, done.deployments, done.forgotten) == (0, (str(tmp_path / "b"),), (str(tmp_path / "a"),))
    whole(tmp_path / "b")


def test_a_gc_waits_for_a_running_deployment(bundles: Path, tmp_path: Path, store: Path) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    shutil.rmtree(tmp_path / "a")
    reporter, done = RecordingReporter(), threading.Event()

    def run() -> None:
        collect(store, reporter=reporter)
        done.set()

    with open_store(store).in_use():
        thread = threading.Thread(target=run)
        thread.start()
        while not reporter.notes:
            time.sleep(0.01)
        assert not done.wait(0.2)
        assert len(segments(store)) == 3
    thread.join()
    assert "waiting" in reporter.notes[0]
    assert segments(store) == set()


def test_a_store_is_given_a_folder_of_its_own(bundles: Path, tmp_path: Path, store: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/mine").touch()
    with pytest.raises(DestinationError, match="not empty"):
        deployed(bundles / "1.tar.gz", tmp_path / "a", tmp_path / "used")
    for inside in (tmp_path / "a/store", tmp_path / "a", tmp_path):
        with pytest.raises(DestinationError, match="must not contain each other"):
            deployed(bundles / "1.tar.gz", tmp_path / "a", inside)
    store.mkdir()
    store.chmod(0o777)
    with pytest.raises(DestinationError, match="all users can write"):
        deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    with pytest.raises(FormatError, match="not a store"):
        collected(tmp_path / "none")
    assert not (tmp_path / "a").exists() and not (tmp_path / "none").exists()


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_all(folder: Path) -> list[Path]:
    return [path for path in [folder, *folder.rglob("*")] if not path.is_symlink() and path.stat().st_mode & 0o002]


def test_under_the_umask_000_no_other_user_may_write_to_a_store_or_a_deployment(
    bundles: Path, tmp_path: Path, open_umask: None
) -> None:
    for version in (1, 2):
        deployed(bundles / f"{version}.tar.gz", tmp_path / "host/x", tmp_path / "new/store")
    assert open_to_all(tmp_path / "new") == []
    assert open_to_all(tmp_path / "host/x") == []
    state = tmp_path / "host/.x.envpack"
    assert not state.stat().st_mode & 0o002


@pytest.mark.parametrize(
    "level", ["1", "1/segments", "1/work", "1/roots", "1/damaged", "segment's parent", "segment"]
)
def test_a_store_that_others_may_write_to_is_not_used_at_any_level(
    bundles: Path, tmp_path: Path, store: Path, level: str
) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    segment = next(path for path in (store / "1/segments").glob("*/*"))
    folder = {"segment's parent": segment.parent, "segment": segment}.get(level, store / level)
    folder.chmod(0o777)
    with pytest.raises(DestinationError, match=f"all users can write to the store {folder},"):
        deployed(bundles / "1.tar.gz", tmp_path / "b", store)
    with pytest.raises(DestinationError, match="all users can write"):
        collected(store)
    assert not (tmp_path / "b").exists()
    folder.chmod(0o755)
    deployed(bundles / "1.tar.gz", tmp_path / "b", store)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another group")
def test_a_store_that_a_group_can_write_to_is_not_used(bundles: Path, tmp_path: Path, store: Path) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    store.chmod(0o2775)
    deployed(bundles / "1.tar.gz", tmp_path / "b", store)  # the group of root
    os.chown(store, -1, 12345)
    store.chmod(0o2775)
    with pytest.raises(DestinationError, match=f"the group 12345 can write to the store {store},") as refused:
        deployed(bundles / "1.tar.gz", tmp_path / "c", store)
    assert "chmod -R go-w" in refused.value.hint
    store.chmod(0o2755)
    deployed(bundles / "1.tar.gz", tmp_path / "c", store)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_chown_of_a_deployment_gave_away_is_not_used_again(
    bundles: Path, tmp_path: Path, store: Path
) -> None:
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    for path in (store / "1/segments").glob("*/*/*"):
        os.chown(path, 1234, -1)
    done = deployed(bundles / "1.tar.gz", tmp_path / "b", store)
    assert done.read > 70_000
    assert all(path.stat().st_uid == 0 for path in (tmp_path / "b").rglob("*"))


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_store_without_room_is_named_and_nothing_is_left(
    bundles: Path, tmp_path: Path, store: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., int] = os.open
    opened = 0

    def full(path: object, flags: int, *rest: object, **more: object) -> int:
        nonlocal opened
        if b"/store/1/work/" in (path if isinstance(path, bytes) else b"") and flags & os.O_CREAT:
            opened += 1
            if opened >= after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(DestinationError, match="store") as caught:
        deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    assert "No space left" in caught.value.message
    monkeypatch.undo()
    assert not (tmp_path / "a").exists() and segments(store) == set()
    assert list((store / "1/work").iterdir()) == []
    deployed(bundles / "1.tar.gz", tmp_path / "a", store)
    whole(tmp_path / "a")


# --- crashes ---

KILLED = """
import os, signal, sys
from pathlib import Path
from envpack.runtime.store import placement as share, store
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.repair import repair
from envpack.runtime.report import Reporter
left = int(sys.argv[4])
def counted(name, arguments):
    global left
    if name in ("open", "os.mkdir", "os.link", "os.rename", "os.remove", "os.chmod", "os.utime"):
        paths = [a for a in arguments if isinstance(a, (str, bytes))]
        if any("store" in os.fsdecode(p) for p in paths):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(counted)
deploy(Path(sys.argv[1]), Path(sys.argv[2]), DeployOptions(jobs=1, store=Path(sys.argv[3])), reporter=Reporter())
"""


def test_killed_while_filling_nothing_half_is_left(bundles: Path, tmp_path: Path, store: Path) -> None:
    """At every tenth step that touches the store, until one gets to the end."""
    killed = 0
    for step in range(1, 2000, 10):
        shutil.rmtree(store, ignore_errors=True)
        command = [sys.executable, "-c", KILLED, bundles / "1.tar.gz", tmp_path / "a", store, str(step)]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        for folder in (store / "1/segments").glob("*/*"):
            assert _is_whole(folder), folder
        if killed % 2 and (store / "1").is_dir():
            collected(store)
        assert deployed(bundles / "1.tar.gz", tmp_path / "a", store).generation >= 1
        whole(tmp_path / "a")
        assert deployed(bundles / "1.tar.gz", tmp_path / "b", store).read == 0
        whole(tmp_path / "b")
        collected(store)
        assert list((store / "1/work").iterdir()) == []
        shutil.rmtree(tmp_path / "a")
        shutil.rmtree(tmp_path / "b")
    assert killed > 4


def _is_whole(folder: Path) -> bool:
    """The segments here have 7, 1 and 2 paths, of which links and folders are no files."""
    return len(list(folder.iterdir())) in (4, 1, 2) and all(
        not path.stat().st_mode & 0o222 for path in folder.iterdir()
    )


def test_two_that_fill_one_store_wait_for_one_another(bundles: Path, tmp_path: Path, store: Path) -> None:
    with open_bundle(bundles / "1.tar.gz", FAST) as opened:
        key = opened.table().digests["conda:numpy"]
    other = SegmentIngest(open_store(store))
    folder = other.claim(key)
    assert folder is not None
    thread = threading.Thread(target=deployed, args=(bundles / "1.tar.gz", tmp_path / "a", store))
    thread.start()
    time.sleep(0.3)
    assert not (tmp_path / "a").exists()
    other.__exit__(KeyboardInterrupt)  # it gives up, as when it is killed
    thread.join()
    whole(tmp_path / "a")
    assert key in segments(store)
