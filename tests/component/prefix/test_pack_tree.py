"""Odd trees: what people's environments hold of links, modes and names is there again after a deployment."""

from __future__ import annotations

import os
import resource
import stat
import struct
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path

import pytest

from envpack.runtime.errors import IntegrityError, PackError
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.tree_rules import check_tree
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix, pack_elsewhere
from support.trees import environment


@pytest.fixture
def made(tmp_path: Path) -> SmallPrefix:
    return SmallPrefix(tmp_path / "env")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the environment, with what people link to from theirs."""
    folder = tmp_path / "outside"
    (folder / "lib/sub").mkdir(parents=True)
    (folder / "lib/libx.so.1").write_bytes(b"library")
    (folder / "lib/libx.so").symlink_to("libx.so.1")
    (folder / "lib/sub/up").symlink_to("../libx.so.1")
    (folder / "tool").write_bytes(b"#!/bin/sh\n")
    (folder / "tool").chmod(0o700)
    return folder


def link_out(made: SmallPrefix, outside: Path) -> None:
    made.link("bin/tool", outside / "tool")
    made.link("share/lib", "../../outside/lib")
    made.link("lib/gone", outside / "nothing")


# --- links ---


def test_links_that_lead_out_are_refused_all_at_once_with_what_to_do(made: SmallPrefix, outside: Path) -> None:
    link_out(made, outside)
    with pytest.raises(PackError) as caught:
        made.pack(made.path.parent / "b.tar.gz")
    assert caught.value.details == [
        f"bin/tool: links to {outside}/tool, outside the environment",
        f"lib/gone: links to {outside}/nothing, outside the environment",
        "share/lib: links to ../../outside/lib, outside the environment",
    ]
    assert "--outside-links" in (caught.value.hint or "")
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["env", "outside"]


def test_with_outside_links_copy_the_targets_of_links_are_packed(
    made: SmallPrefix, outside: Path, tmp_path: Path
) -> None:
    link_out(made, outside)
    (made.path / "lib/gone").unlink()
    (outside / "lib/home").symlink_to(made.path / "bin")
    (outside / "lib/far").symlink_to("../../far")
    (tmp_path / "far").mkdir()
    (tmp_path / "far/x").write_text(f"prefix={made.path}\n")
    deployed = made.moved(tmp_path / "to", outside="follow")
    found = environment(deployed)
    assert found["bin/tool"] == (0o755, b"#!/bin/sh\n")
    assert found["share/lib/libx.so.1"] == (0o644, b"library")
    assert found["share/lib/libx.so"][1] == "libx.so.1" and found["share/lib/sub/up"][1] == "../libx.so.1"
    assert found["share/lib/home"][1] == "../../bin"
    assert found["share/lib/far/x"][1] == f"prefix={deployed}\n".encode()


def test_links_that_go_round_or_nowhere_can_t_be_followed(
    made: SmallPrefix, outside: Path, tmp_path: Path
) -> None:
    made.link("lib/gone", outside / "nothing")
    made.link("lib/root", "/")
    made.link("lib/up", tmp_path)
    made.link("lib/round", outside)
    (outside / "back").symlink_to(outside, target_is_directory=True)
    (outside / "parent").symlink_to("..", target_is_directory=True)
    with pytest.raises(PackError) as caught:
        made.pack(tmp_path / "b.tar.gz", outside="follow")
    assert caught.value.details == [
        f"lib/gone: links to {outside}/nothing: No such file or directory",
        "lib/root: links to /, which contains the link",
        f"lib/round/parent: links to {tmp_path}, which contains the link",
        f"lib/up: links to {tmp_path}, which contains the link",
    ]


def test_with_outside_links_keep_links_are_unchanged_and_listed(
    made: SmallPrefix, outside: Path, tmp_path: Path
) -> None:
    link_out(made, outside)
    manifest = made.pack(tmp_path / "b.tar.gz", outside="keep")
    assert manifest.changes.outside == ("bin/tool", "lib/gone", "share/lib")
    found = environment(made.moved(tmp_path / "to", outside="keep"))
    assert found["bin/tool"][1] == f"{outside}/tool"
    assert found["share/lib"][1] == f"{outside}/lib"
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        assert archive.getmember("share/lib").linkname == f"{outside}/lib"


def test_a_bundle_s_links_lead_out_only_where_its_manifest_says_so() -> None:
    table = PathsTable({"s": (PathRecord("lib/x", "symlink", target="/etc"),)})
    check_tree(table, ["s"], ["lib/x"])
    with pytest.raises(IntegrityError):
        check_tree(table, ["s"], ["lib/y"])
    with pytest.raises(IntegrityError):
        below = PathsTable({"s": (*table.segments["s"], PathRecord("lib/x/passwd", "file"))})
        check_tree(below, ["s"], ["lib/x"])


def test_inner_links_to_files_and_folders_stay_links(made: SmallPrefix, tmp_path: Path) -> None:
    made.write("lib/x.so.1", "x")
    made.link("lib/x.so", "x.so.1")
    made.link("lib64", "lib")
    made.link("share/absolute", made.path / "lib/x.so")
    made.link("share/dangling", "nowhere/at/all")
    found = environment(made.moved(tmp_path / "to"))
    targets = {path: content for path, (_, content) in found.items() if isinstance(content, str)}
    assert targets == {
        "lib/x.so": "x.so.1",
        "lib64": "lib",
        "share/absolute": "../lib/x.so",
        "share/dangling": "nowhere/at/all",
    }


def test_hard_links_are_one_file_within_a_package_and_stay_one_after_a_move(
    made: SmallPrefix, tmp_path: Path
) -> None:
    made.write("bin/a", f"#!{made.path}/bin/sh\n", 0o755)
    for name in ("bin/b", "lib/c"):
        (made.path / name).parent.mkdir(exist_ok=True)
        (made.path / name).hardlink_to(made.path / "bin/a")
    deployed = made.moved(tmp_path / "to")
    moved = deployed.rename(tmp_path / "moved")
    subprocess.run([sys.executable, "-I", ".envpack/runtime.pyz", "unpack", "."], cwd=moved, check=True)
    assert {(moved / name).stat().st_ino for name in ("bin/a", "bin/b", "lib/c")} == {
        (moved / "bin/a").stat().st_ino
    }
    assert (moved / "lib/c").read_text() == f"#!{moved}/bin/sh\n"


# --- modes ---


def test_modes_are_those_others_can_use_and_nothing_is_setuid(made: SmallPrefix, tmp_path: Path) -> None:
    made.write("bin/private", "", 0o700)
    made.write("bin/setuid", "", 0o6711)
    made.write("etc/private", "", 0o600)
    made.write("etc/shared", "", 0o666)
    made.write("etc/read-only", "", 0o444)
    modes = {path: mode for path, (mode, content) in environment(made.moved(tmp_path / "to")).items()}
    assert {path: modes[path] for path in modes if path.startswith(("bin/", "etc/"))} == {
        "bin/private": 0o755,
        "bin/setuid": 0o755,
        "etc/private": 0o644,
        "etc/shared": 0o644,
        "etc/read-only": 0o644,
    }


def test_privileges_that_are_not_packed_are_told(made: SmallPrefix, tmp_path: Path) -> None:
    made.write("bin/setuid", "", 0o4755)
    made.write("bin/setgid", "", 0o2755)
    named = ["bin/setgid", "bin/setuid"]
    with suppress(OSError):  # not as root, or on a filesystem without them
        # capabilities(7), struct vfs_cap_data: version 2, CAP_NET_RAW
        value = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
        os.setxattr(made.write("bin/ping", "", 0o755), "security.capability", value)
        named.insert(0, "bin/ping")
    told = RecordingReporter()
    made.pack(tmp_path / "b.tar.zst", reporter=told)
    assert f"setuid, setgid and capabilities are not packed: {', '.join(named)};" in " ".join(told.warnings)


def test_empty_and_read_only_folders_are_there_again(made: SmallPrefix, tmp_path: Path) -> None:
    for path, mode in {"var/open": 0o1777, "var/closed": 0o500, "var/usual": 0o755}.items():
        (made.path / path).mkdir(parents=True)
        (made.path / path).chmod(mode)
    made.write("read-only/file", "x").parent.chmod(0o555)
    try:
        found = environment(made.moved(tmp_path / "to"))
    finally:
        (made.path / "read-only").chmod(0o755)
    assert found["read-only/file"][1] == b"x"
    modes = {path: mode for path, (mode, content) in found.items() if content == "folder"}
    assert modes == {"var/open": 0o755, "var/closed": 0o700, "var/usual": 0o755}


def test_under_a_umask_nothing_is_for_others(made: SmallPrefix, tmp_path: Path) -> None:
    made.write("bin/x", "", 0o755)
    (made.path / "var/open").mkdir(parents=True)
    (made.path / "var/open").chmod(0o777)
    old = os.umask(0o077)
    try:
        deployed = made.moved(tmp_path / "to")
    finally:
        os.umask(old)
    places = [deployed, *deployed.rglob("*")]
    assert {stat.S_IMODE(place.lstat().st_mode) & 0o077 for place in places if not place.is_symlink()} == {0}
    assert (deployed / "bin/x").stat().st_mode & 0o700 == 0o700


# --- names ---


def test_names_of_any_length_and_encoding_are_there_again(made: SmallPrefix, tmp_path: Path) -> None:
    names = [
        os.fsdecode(b"lib/\xff\xfe latin"),
        "lib/中文 - ünï",
        "lib/-dash",
        "lib/new\nline",
        "lib/" + "n" * 255,
        "/".join(["deep" * 20] * 6) + "/file",
        "lib/trailing ",
        "lib/back\\slash",
    ]
    for name in names:
        made.write(name, f"in {made.path}\n")
        made.link(f"{name[:240]}.link" if name.count("/") == 1 else f"{name}.link", "x" * 300)
    deployed = made.moved(tmp_path / "to")
    found = environment(deployed)
    for name in names:
        assert found[name] == (0o644, os.fsencode(f"in {deployed}\n")), name
    assert sum(content == "x" * 300 for _, content in found.values()) == len(names)
    unpacked = tmp_path / "tar"
    unpacked.mkdir()
    made.pack(tmp_path / "plain.tar.gz")
    subprocess.run(["tar", "-xzf", tmp_path / "plain.tar.gz", "-C", unpacked], check=True)
    assert set(environment(unpacked)) == set(found)


# --- large and changing files ---


def test_a_large_file_is_packed_in_little_memory(made: SmallPrefix, tmp_path: Path) -> None:
    """In a process of its own, which says how much memory it had at most. Sparse, with the prefix in its midst;
    tests/large has one of over 8 GiB."""
    size = 512 << 20
    with (made.path / "weights.bin").open("wb") as file:
        file.truncate(size)
        file.seek(size // 2 - 4)
        file.write(os.fsencode(made.path) + b"/lib")
    output = tmp_path / "large.tar.zst"
    memory, manifest = pack_elsewhere(made.path, output)
    assert memory < 300 << 20
    assert manifest.size > size and manifest.longest_prefix == len(os.fsencode(made.path))
    assert manifest.changes.unrelocatable == ()


def test_files_that_change_while_they_are_packed_are_reported_all_at_once(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grows", "shrinks", "vanishes", "stays"):
        made.write(f"var/{name}", "0123456789" * 10)
    import envpack.bundle.pack as pack

    read = pack.read_for_packing

    def then_change(*arguments: object) -> object:
        contents = read(*arguments)  # type: ignore[arg-type]
        made.write("var/grows", "x" * 200)
        made.write("var/shrinks", "")
        (made.path / "var/vanishes").unlink()
        return contents

    monkeypatch.setattr(pack, "read_for_packing", then_change)
    with pytest.raises(PackError, match="3 files changed") as caught:
        made.pack(tmp_path / "b.tar.gz")
    assert caught.value.details == ["var/grows", "var/shrinks", "var/vanishes"]
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_the_limit_on_open_files_is_none_on_the_number_of_files(made: SmallPrefix, tmp_path: Path) -> None:
    for number in range(300):
        made.write(f"lib/{number}", str(number))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, soft), hard))
    try:
        assert len(environment(made.moved(tmp_path / "to"))) == 301
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
