"""Every kind of damage is found, in deployments and in bundles; what is no damage is not called so; and what is
found is mended, and nothing else touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.bundle.frames import FRAME_SIZE
from envpack.bundle.model import Item
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.commands.repair import Repaired, repair
from envpack.runtime.commands.verify import Verified, verify
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import DestinationError, EnvpackError, FormatError, IntegrityError
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.bundle_factory import PLACEHOLDER, file, library, link, make_bundle, text
from support.sample_deployments import deployed
from support.trees import inodes, snapshot

LARGE = os.urandom(2 * FRAME_SIZE + 4321)
SEGMENTS = {
    "conda:a-1-0": [
        text("bin/tool", b"#!/bin/sh\necho @ tool\n", 0o755),
        Item(PathRecord("bin/same", "hardlink", target="bin/tool")),
        file("lib/a.py", b"A = 1\n"),
        file("lib/large.bin", LARGE),
        file("lib/deep/er/b.txt", b"b"),
        library("lib/lib.so"),
        link("lib/latest", "large.bin"),
        file("share/ro/locked", b"in a read-only folder"),
        Item(PathRecord("share/ro", "directory", mode=0o555)),
        Item(PathRecord("share/empty", "directory", mode=0o755)),
    ],
    "conda:b-1-0": [file("lib/other.bin", LARGE[::-1]), file("lib/none", b"")],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "b.tar.gz"
    make_bundle(path, SEGMENTS)
    return path


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture
def root(bundle: Path, tmp_path: Path) -> Path:
    deployed(bundle, tmp_path / "x")
    return tmp_path / "x"


def verified(path: Path) -> Verified:
    return verify(path, reporter=Reporter(), jobs=2, decoders=FAST)


def mended(root: Path, bundle: Path) -> Repaired:
    return repair(root, bundle, reporter=Reporter(), jobs=2, decoders=FAST)


def replaced(path: Path, data: bytes | None = None) -> None:
    """Change a file as an editor does: by another file of the same mode."""
    mode = path.stat().st_mode & 0o777
    data = path.read_bytes() if data is None else data
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


def changed_byte(path: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        data = bytearray((root / path).read_bytes())
        data[len(data) // 2] ^= 1
        (root / path).write_bytes(data)

    return change


def folder_by_link(root: Path) -> None:
    """The same content, in the file of another user."""
    (root / "lib/deep").rename(root.parent / "deep")
    (root / "lib/deep").symlink_to(root.parent / "deep")


def file_by_link(root: Path) -> None:
    shutil.copy(root / "lib/a.py", root.parent / "a.py")
    (root / "lib/a.py").unlink()
    (root / "lib/a.py").symlink_to(root.parent / "a.py")


def link_by_file(root: Path) -> None:
    (root / "lib/latest").unlink()
    (root / "lib/latest").write_bytes(LARGE)


def file_by_folder(root: Path) -> None:
    (root / "lib/a.py").unlink()
    (root / "lib/a.py").mkdir()


def file_by_fifo(root: Path) -> None:
    (root / "lib/a.py").unlink()
    os.mkfifo(root / "lib/a.py")


def folder_by_file(root: Path) -> None:
    shutil.rmtree(root / "lib/deep")
    (root / "lib/deep").write_text("")


def other_target(root: Path) -> None:
    (root / "lib/latest").unlink()
    (root / "lib/latest").symlink_to("a.py")


def other_place(root: Path) -> None:
    """Change the path in a script, as if it was copied from another deployment."""
    tool = root / "bin/tool"
    tool.write_bytes(tool.read_bytes().replace(os.fsencode(root), os.fsencode(root.parent / "y")))


def still_the_placeholder(root: Path) -> None:
    tool = root / "bin/tool"
    tool.write_bytes(tool.read_bytes().replace(os.fsencode(root), PLACEHOLDER))


def edited(root: Path) -> None:
    with (root / "bin/tool").open("a") as tool:
        tool.write("echo edited by hand\n")


DAMAGE: dict[str, tuple[Callable[[Path], object], set[str], set[str]]] = {
    # what is done -> which paths are changed, and which are missing
    "a byte": (changed_byte("lib/a.py"), {"lib/a.py"}, set()),
    "a byte of a large file": (changed_byte("lib/large.bin"), {"lib/large.bin"}, set()),
    "a byte of a relocated library": (changed_byte("lib/lib.so"), {"lib/lib.so"}, set()),
    "cut short": (lambda root: os.truncate(root / "lib/large.bin", 100), {"lib/large.bin"}, set()),
    "emptied": (lambda root: os.truncate(root / "lib/a.py", 0), {"lib/a.py"}, set()),
    "longer": (lambda root: (root / "lib/none").write_text("x"), {"lib/none"}, set()),
    "missing": (lambda root: (root / "lib/a.py").unlink(), set(), {"lib/a.py"}),
    "a folder missing": (lambda root: shutil.rmtree(root / "lib/deep"), set(), {"lib/deep/er/b.txt"}),
    "an empty folder missing": (lambda root: (root / "share/empty").rmdir(), set(), {"share/empty"}),
    "a link missing": (lambda root: (root / "lib/latest").unlink(), set(), {"lib/latest"}),
    "a hard link missing": (lambda root: (root / "bin/same").unlink(), set(), {"bin/same"}),
    "another target": (other_target, {"lib/latest"}, set()),
    "not executable": (lambda root: (root / "bin/tool").chmod(0o644), {"bin/tool", "bin/same"}, set()),
    "executable": (lambda root: (root / "lib/a.py").chmod(0o755), {"lib/a.py"}, set()),
    "setuid": (lambda root: (root / "bin/tool").chmod(0o4755), {"bin/tool", "bin/same"}, set()),
    "edited by hand": (edited, {"bin/tool", "bin/same"}, set()),
    "another place": (other_place, {"bin/tool", "bin/same"}, set()),
    "no place": (still_the_placeholder, {"bin/tool", "bin/same"}, set()),
    "one of two names": (lambda root: replaced(root / "bin/tool", b"mine"), {"bin/tool"}, set()),
    "a folder replaced by a link": (folder_by_link, {"lib/deep"}, {"lib/deep/er/b.txt"}),
    "a folder replaced by a file": (folder_by_file, {"lib/deep"}, {"lib/deep/er/b.txt"}),
    "a file replaced by a link": (file_by_link, {"lib/a.py"}, set()),
    "a link replaced by a file": (link_by_file, {"lib/latest"}, set()),
    "a file replaced by a folder": (file_by_folder, {"lib/a.py"}, set()),
    "a file replaced by a pipe": (file_by_fifo, {"lib/a.py"}, set()),
    "in a read-only folder": (changed_byte("share/ro/locked"), {"share/ro/locked"}, set()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_mended_and_nothing_else_is_touched(root: Path, bundle: Path, kind: str) -> None:
    harm, changed, missing = DAMAGE[kind]
    (root / "mine.txt").write_text("mine")
    before, former = snapshot(root), inodes(root)
    harm(root)
    found = verified(root)
    assert {item.path for item in found.changed} == changed
    assert set(found.missing) == missing
    assert not found.whole
    with pytest.raises(IntegrityError) as caught:
        found.require()
    assert all(any(path in line for line in caught.value.details) for path in changed | missing)
    done = mended(root, bundle)
    assert set(done.mended) >= changed | missing
    assert snapshot(root) == before
    now = inodes(root)
    touched = {path for path in before if former[path] != now[path]}
    assert touched <= changed | missing | {"bin/same", "lib/deep", "lib/deep/er"}
    assert verified(root).whole
    assert (root / "bin/tool").samefile(root / "bin/same")
    assert done.extra == ("mine.txt",)


def test_a_deployment_is_whole(root: Path) -> None:
    found = verified(root)
    assert (found.changed, found.missing, found.extra) == ((), (), ())
    assert found.whole and found.settled
    found.require()


def test_a_repair_of_what_is_whole_writes_nothing(root: Path, bundle: Path) -> None:
    before = snapshot(root), inodes(root)
    done = mended(root, bundle)
    assert (done.mended, done.read) == ((), 0)
    assert (snapshot(root), inodes(root)) == before


def test_only_the_frames_with_damage_are_read(root: Path, bundle: Path) -> None:
    """Every other frame of the payload is destroyed; the repair does not notice."""
    changed_byte("lib/a.py")(root)
    with open_bundle(bundle, FAST) as opened:
        frames = list(opened.frames())
    data = bytearray(bundle.read_bytes())
    for located in frames[1:]:
        data[located.offset : located.offset + located.frame.stored] = bytes(located.frame.stored)
    bundle.write_bytes(data)
    assert len(frames) > 4
    assert mended(root, bundle).read == frames[0].frame.stored
    assert verified(root).whole


def test_added_files_are_listed_and_are_no_damage(root: Path) -> None:
    (root / "lib/new.py").write_text("")
    (root / "lib/new.pyc").write_text("byte-code of a source that is there")
    (root / "lib/gone.pyc").write_text("byte-code without one, which Python would run")
    (root / "lib/__pycache__").mkdir()
    (root / "lib/__pycache__/a.cpython-311.pyc").write_text("Python's own")
    (root / "more/empty").mkdir(parents=True)
    (root / "more/link").symlink_to("/nowhere")
    (root / ".envpack/check").write_text("a stamp\n")
    found = verified(root)
    assert found.whole
    assert found.extra == ("lib/gone.pyc", "lib/new.py", "more/link")


def test_byte_code_that_the_bundle_brought_is_checked_like_all_else(tmp_path: Path) -> None:
    pyc = "lib/__pycache__/a.cpython-311.pyc"
    make_bundle(tmp_path / "b.tar.gz", {"environment": [file("lib/a.py", b""), file(pyc, b"good")]})
    deploy(tmp_path / "b.tar.gz", tmp_path / "x", reporter=Reporter())
    (tmp_path / "x" / pyc).write_bytes(b"evil")
    assert [item.path for item in verified(tmp_path / "x").changed] == [pyc]


def test_after_tar_and_after_a_move_it_is_whole(bundle: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    subprocess.run(["tar", "-xzf", bundle, "-C", tmp_path / "t"], check=True)
    found = verified(tmp_path / "t")
    assert found.whole and not found.settled
    root = root.rename(tmp_path / "moved")
    found = verified(root)
    assert found.whole and not found.settled
    rewrite_prefix(root, Reporter())
    found = verified(root)
    assert found.whole and found.settled


def test_a_moved_deployment_is_mended_for_the_place_it_lies_in(bundle: Path, root: Path, tmp_path: Path) -> None:
    root = root.rename(tmp_path / "moved and longer")
    edited(root)
    assert set(mended(root, bundle).mended) == {"bin/tool", "bin/same"}
    assert (root / "bin/tool").read_text() == f"#!/bin/sh\necho {root} tool\n"
    found = verified(root)
    assert found.whole and found.settled


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "paths.json"])
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_manifest_and_table_are_mended_too(root: Path, bundle: Path, name: str, harm: str) -> None:
    path = root / ".envpack" / name
    before = path.read_bytes()
    if harm == "changed":
        path.write_bytes(before.replace(b"a", b"b"))
    else:
        path.unlink()
    with pytest.raises(EnvpackError) as caught:
        verified(root)
    assert caught.value.code in (6, 7)
    assert mended(root, bundle).mended == (f".envpack/{name}",)
    assert path.read_bytes() == before
    assert verified(root).whole


def test_manifest_and_digest_changed_together_are_found(root: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "other.tar.gz", {"environment": [file("x", b"")]})
    deploy(tmp_path / "other.tar.gz", tmp_path / "other", reporter=Reporter())
    for name in ("manifest.json", "manifest.sha256", "paths.json"):
        shutil.copy(tmp_path / "other/.envpack" / name, root / ".envpack" / name)
    with pytest.raises(IntegrityError, match="not the one that was deployed"):
        verified(root)


def test_another_bundle_mends_nothing(root: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "other.tar.gz", {"environment": [file("lib/a.py", b"other")]})
    before = snapshot(root), inodes(root)
    with pytest.raises(DestinationError, match="was not deployed from"):
        mended(root, tmp_path / "other.tar.gz")
    assert (snapshot(root), inodes(root)) == before


def test_no_two_work_at_one_deployment(root: Path, bundle: Path) -> None:
    with exclusive(DeploymentState(root), Reporter()), pytest.raises(DestinationError, match="another envpack"):
        mended(root, bundle)


def test_files_of_the_user_are_never_removed(root: Path, bundle: Path) -> None:
    (root / "lib/a.py").unlink()
    (root / "lib/a.py").mkdir()
    (root / "lib/a.py/mine").write_text("mine")
    with pytest.raises(DestinationError, match="must be a file"):
        mended(root, bundle)
    assert (root / "lib/a.py/mine").read_text() == "mine"


def test_a_link_to_elsewhere_is_replaced_and_what_it_leads_to_stays(
    root: Path, bundle: Path, tmp_path: Path
) -> None:
    folder_by_link(root)
    (tmp_path / "deep/er/b.txt").write_text("another user's")
    mended(root, bundle)
    assert (tmp_path / "deep/er/b.txt").read_text() == "another user's"
    assert (root / "lib/deep/er/b.txt").read_text() == "b"


def test_what_is_no_deployment_is_named(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "folder").mkdir()
    for action in (
        lambda: verified(tmp_path / "folder"),
        lambda: verified(tmp_path / "none"),
        lambda: mended(tmp_path / "folder", bundle),
        lambda: mended(tmp_path / "none", bundle),
    ):
        with pytest.raises(FormatError, match=str(tmp_path)):
            action()


# --- bundles ---


@pytest.mark.parametrize("name", ["b.tar.gz", "b.tar.zst"])
def test_a_bundle_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / name
    make_bundle(bundle, SEGMENTS)
    found = verified(bundle)
    assert found.whole and found.kind == "bundle"
    assert found.files == sum(len(items) for items in SEGMENTS.values())
    data = bundle.read_bytes()
    for at in (len(data) - 5, len(data) // 2, len(data) - len(data) // 4):
        bundle.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(IntegrityError, match="damaged at byte"):
            verified(bundle)
    bundle.write_bytes(data[:-1])
    with pytest.raises(IntegrityError, match="truncated"):
        verified(bundle)


def test_a_bundle_whose_files_are_not_what_its_table_says_is_found(tmp_path: Path) -> None:
    """Frames and sizes fit, and only the file's own digest tells."""
    good = file("lib/x", b"12345")
    make_bundle(tmp_path / "b.tar.gz", {"environment": [Item(good.record, [b"54321"])]})
    with pytest.raises(IntegrityError, match="'lib/x' does not match its digest"):
        verified(tmp_path / "b.tar.gz")


def test_a_bundle_that_could_not_be_relocated_is_found(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b.tar.gz", {"e": [file("x", b"abc", relocation=Relocation(b"/p", text=(0,)))]})
    with pytest.raises(IntegrityError, match=r"'x': the bytes at offset 0"):
        verified(tmp_path / "b.tar.gz")
