"""Small environments written by hand: their files, the owners of these, and what packing refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import ENVIRONMENT, SOURCE_MTIME, Entry, Group, PrefixContents, Stored
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.runtime.errors import PackError
from envpack.runtime.relocation.relocation import Bytecode, splices
from envpack.runtime.relocation.splice import splice

SITE = "lib/python3.11/site-packages"
PLACEHOLDER = b"/h/" + b"placehold_" * 25


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Made:
    """An environment in the making."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.write("conda-meta/history", b"")

    def write(self, path: str, data: bytes, mode: int = 0o644, mtime: int | None = None) -> Path:
        place = self.prefix / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(mode)
        if mtime is not None:
            os.utime(place, (mtime, mtime))
        return place

    def conda(self, name: str, files: Mapping[str, bytes], write: bool = True, **fields: Any) -> None:
        """A conda package with ``files`` as published; those with PLACEHOLDER in them are text to be patched."""
        items = []
        for path, data in files.items():
            item: dict[str, Any] = {
                "_path": path,
                "path_type": "hardlink",
                "sha256": sha(data),
                "size_in_bytes": len(data),
            }
            if PLACEHOLDER in data:
                item.update(prefix_placeholder=PLACEHOLDER.decode(), file_mode="text")
            items.append(item)
            if write:
                self.write(path, data.replace(PLACEHOLDER, os.fsencode(self.prefix)))
        document = {"name": name, "version": "1", "build": "0", "paths_data": {"paths": items}, **fields}
        self.write(f"conda-meta/{name}-1-0.json", json.dumps(document).encode())

    def pip(self, name: str, files: Mapping[str, bytes], installer: str = "pip") -> None:
        folder = f"{name}-2.dist-info"
        files = {**files, f"{folder}/METADATA": f"Name: {name}\nVersion: 2\n".encode()}
        rows = [f"{path},," for path in (*files, f"{folder}/INSTALLER", f"{folder}/RECORD")]
        files = {**files, f"{folder}/INSTALLER": installer.encode(), f"{folder}/RECORD": "\n".join(rows).encode()}
        for path, data in files.items():
            self.write(os.path.normpath(f"{SITE}/{path}"), data)

    def read(self, **options: Any) -> PrefixContents:
        return read_prefix(self.prefix, **options)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    prefix = tmp_path / "env"
    prefix.mkdir()
    return Made(prefix)


def by_path(contents: PrefixContents) -> dict[str, tuple[Group, Entry]]:
    return {entry.path: (group, entry) for group in contents.groups for entry in group.entries}


def store(contents: PrefixContents, path: str) -> Stored:
    entry = by_path(contents)[path][1]
    data = entry.content if entry.content is not None else (contents.prefix / path).read_bytes()
    return FileNormalizer(contents.prefix, contents).normalize(entry, data)


def test_groups_stand_in_order_and_every_path_is_in_one(made: Made) -> None:
    made.pip("zeta", {"zeta.py": b""})
    made.pip("alpha", {"alpha.py": b"", "../../../bin/alpha": b""})
    made.conda("numpy", {"lib/b": b"", "lib/a": b"", "lib/ä": b"", "lib/B": b""}, timestamp=1700000000000)
    made.conda("meta", {})
    made.write("notes.txt", b"")
    contents = made.read()
    ids = ["conda:meta-1-0", "conda:numpy-1-0", "pypi:alpha-2", "pypi:zeta-2", ENVIRONMENT]
    assert [group.id for group in contents.groups] == ids
    assert [group.package.segment if group.package else "" for group in contents.groups] == [*ids[:-1], ""]
    assert [entry.path for entry in contents.groups[1].entries] == ["lib/B", "lib/a", "lib/b", "lib/ä"]
    assert by_path(contents)["bin/alpha"][0].id == "pypi:alpha-2"
    assert contents.foreign == ("notes.txt",)
    assert contents.newest == 1700000000
    assert sum(len(group.entries) for group in contents.groups) == len(by_path(contents))
    on_disk = {str(path.relative_to(made.prefix)) for path in made.prefix.rglob("*") if path.is_file()}
    assert set(by_path(contents)) == on_disk


def test_pip_over_conda_edited_and_deleted_files(made: Made) -> None:
    made.conda("demo", {f"{SITE}/demo.py": b"conda's", "lib/edited": b"1", "lib/deleted": b"2", "lib/kept": b"3"})
    made.pip("demo", {"demo.py": b"pip's"})
    made.write("lib/edited", b"edited")
    (made.prefix / "lib/deleted").unlink()
    contents = made.read()
    found = by_path(contents)
    assert found[f"{SITE}/demo.py"][0].id == "pypi:demo-2"
    assert (contents.replaced, contents.missing) == ((f"{SITE}/demo.py",), ("lib/deleted",))
    assert store(contents, "lib/edited").modified
    assert not store(contents, "lib/kept").modified
    assert not store(contents, f"{SITE}/demo.py").modified


def test_metadata_inside_a_conda_package_is_no_distribution_until_pip_replaces_it(made: Made) -> None:
    made.pip("demo", {"demo.py": b"x"}, installer="conda")
    names = ["demo.py", *(f"demo-2.dist-info/{name}" for name in ("METADATA", "INSTALLER", "RECORD"))]
    files = {f"{SITE}/{name}": (made.prefix / SITE / name).read_bytes() for name in names}
    made.conda("demo", files)
    assert [group.id for group in made.read().groups] == ["conda:demo-1-0", ENVIRONMENT]
    made.pip("demo", {"demo.py": b"x", "more.py": b""}, installer="pip")
    contents = made.read()
    assert [group.id for group in contents.groups] == ["conda:demo-1-0", "pypi:demo-2", ENVIRONMENT]
    assert by_path(contents)[f"{SITE}/demo-2.dist-info/RECORD"][0].id == "pypi:demo-2"


def test_a_distribution_edited_in_place_is_modified(made: Made) -> None:
    made.pip("demo", {"demo.py": b"x"})
    record = made.prefix / SITE / "demo-2.dist-info/RECORD"
    record.write_bytes(b"demo.py,sha256=" + b"A" * 43 + b",1\n")
    assert store(made.read(), f"{SITE}/demo.py").modified


def test_two_installations_of_one_distribution_are_two_groups(made: Made) -> None:
    made.pip("demo", {"demo.py": b"x"})
    for path in sorted((made.prefix / SITE).rglob("*")):
        if path.is_file():
            made.write(f"lib/python3.9/site-packages/{path.relative_to(made.prefix / SITE)}", path.read_bytes())
    ids = [group.id for group in made.read().groups]
    assert ids == ["pypi:demo-2", "pypi:demo-2@lib/python3.9/site-packages/demo-2.dist-info", ENVIRONMENT]


def test_what_bundles_bring_themselves_gives_way(made: Made) -> None:
    made.conda("conda", {"bin/activate": b"x", "bin/deactivate": b"x", "bin/other": b""})
    contents = made.read()
    assert "bin/activate" not in by_path(contents)
    assert contents.replaced == ("bin/activate", "bin/deactivate")
    assert contents.missing == contents.foreign == ()


def test_conda_s_own_activate_gets_another_name_also_when_edited(made: Made) -> None:
    own = b'#!/bin/sh\n_CONDA_ROOT="/opt/env"\n# edited\n'
    made.conda("conda", {"bin/activate": b"as published", "bin/deactivate": b"as published, too"})
    made.write("bin/activate", own)
    contents = made.read()
    group, entry = by_path(contents)["bin/activate.conda"]
    assert group.id.startswith("conda:conda-") and entry.place == str(made.prefix.resolve() / "bin/activate")
    assert "bin/deactivate.conda" in by_path(contents)
    assert contents.missing == contents.foreign == ()
    without = read_prefix(made.prefix, keep=lambda path: path != "bin/activate.conda")
    assert "bin/activate.conda" not in by_path(without) and without.missing == ()


def test_in_a_deployment_conda_s_own_activate_has_its_other_name_already(made: Made) -> None:
    made.conda("conda", {"bin/activate": b"_CONDA_ROOT=x"})
    made.write("bin/activate", b"envpack's")
    made.write("bin/activate.conda", b"_CONDA_ROOT=y")
    contents = made.read()
    group, entry = by_path(contents)["bin/activate.conda"]
    assert group.id.startswith("conda:conda-") and entry.place == ""
    assert contents.foreign == ()


def test_what_is_no_part_of_the_environment_is_left_out(made: Made) -> None:
    for path in (
        ".envpack/paths.json",
        "conda-meta/x.lock",
        "conda-meta/pixi",
        "pkgs/urls.txt",
        "pkgs/numpy/lib/x",
        "envs/.conda_envs_dir_test",
        "envs/other/conda-meta/history",
        "lib/__pycache__/gone.cpython-311.pyc",
    ):
        made.write(path, b"")
    (made.prefix / "lib/empty/__pycache__").mkdir(parents=True)
    assert set(by_path(made.read())) == {"conda-meta/history"}
    made.write("lib/gone.py", b"")
    assert {"lib/gone.py", "lib/__pycache__/gone.cpython-311.pyc"} <= set(by_path(made.read()))


def test_folders_that_only_have_the_names_of_caches_are_kept(made: Made) -> None:
    made.write("pkgs/mine.txt", b"")
    made.write("envs/dev.yml", b"")
    assert {"pkgs/mine.txt", "envs/dev.yml"} <= set(by_path(made.read()))


def test_keep_decides_and_what_it_drops_is_not_missing(made: Made) -> None:
    made.conda("demo", {"lib/demo.py": b"", "lib/test_demo.py": b""})
    made.write("lib/__pycache__/test_demo.cpython-311.pyc", b"")
    contents = made.read(keep=lambda path: not path.endswith("test_demo.py"))
    assert set(by_path(contents)) == {"conda-meta/history", "conda-meta/demo-1-0.json", "lib/demo.py"}
    assert contents.missing == ()


def test_modes_links_and_empty_folders(made: Made) -> None:
    made.write("bin/x", b"", 0o6710)
    made.write("lib/x", b"", 0o600)
    (made.prefix / "var/empty").mkdir(parents=True)
    (made.prefix / "var/empty").chmod(0o1750)
    (made.prefix / "lib/absolute").symlink_to(made.prefix / "bin/x")
    (made.prefix / "lib/relative").symlink_to("../bin/x")
    (made.prefix / "lib/folder").symlink_to("../var", target_is_directory=True)
    (made.prefix / "lib/dangling").symlink_to("nowhere/x")
    found = {path: entry for path, (_, entry) in by_path(made.read()).items()}
    assert (found["bin/x"].mode, found["lib/x"].mode, found["var/empty"].mode) == (0o755, 0o644, 0o750)
    assert found["var/empty"].type == "directory"
    targets = {path: entry.target for path, entry in found.items() if entry.type == "symlink"}
    assert targets == {
        "lib/absolute": "../bin/x",
        "lib/relative": "../bin/x",
        "lib/folder": "../var",
        "lib/dangling": "nowhere/x",
    }


def test_links_by_another_alias_of_the_prefix_are_made_relative(made: Made, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("env", target_is_directory=True)
    (made.prefix / "lib").mkdir()
    (made.prefix / "lib/x").symlink_to(tmp_path / "current/lib/y")
    made.write("lib/text", os.fsencode(tmp_path / "current") + b"/lib")
    for given in (made.prefix, tmp_path / "current"):
        contents = read_prefix(given)
        assert by_path(contents)["lib/x"][1].target == "y"
        assert contents.prefix == made.prefix
    assert store(contents, "lib/text").relocation is not None


def test_hard_links_are_kept_within_a_group_and_not_with_the_package_cache(made: Made, tmp_path: Path) -> None:
    made.conda("demo", {"lib/a": b"same", "lib/b": b"same", "lib/c": b"x"})
    (tmp_path / "cache").mkdir()
    for path, other in (("lib/b", made.prefix / "lib/a"), ("foreign", made.prefix / "lib/a")):
        (made.prefix / path).unlink(missing_ok=True)
        (made.prefix / path).hardlink_to(other)
    (tmp_path / "cache/c").hardlink_to(made.prefix / "lib/c")
    found = {path: entry for path, (_, entry) in by_path(made.read()).items()}
    assert (found["lib/b"].type, found["lib/b"].target) == ("hardlink", "lib/a")
    assert {found[path].type for path in ("lib/a", "lib/c", "foreign")} == {"file"}


def test_names_that_are_not_utf_8(made: Made) -> None:
    name = os.fsdecode(b"lib/\xff\xfe")
    made.write(name, b"x")
    assert by_path(made.read())[name][0].id == ENVIRONMENT


def test_everything_that_can_t_be_packed_is_reported_at_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(made.prefix / "pipe")
    monkeypatch.chdir(made.prefix)  # the name of a socket is limited to 108 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    (made.prefix / "out").symlink_to("/usr/lib/x")
    (made.prefix / "up").symlink_to("../../x")
    with pytest.raises(PackError) as caught:
        made.read()
    assert caught.value.details == [
        "out: links to /usr/lib/x, outside the environment",
        "pipe: is a pipe",
        "socket: is a socket",
        "up: links to ../../x, outside the environment",
    ]
    assert made.read(keep=lambda path: "/" in path).foreign == ()


def test_unreadable_files_and_folders_are_named() -> None:
    # root reads everything, so this runs as another user
    folder = Path(tempfile.mkdtemp(prefix="envpack-test-"))
    folder.chmod(0o755)
    made = Made(folder)
    made.write("secret", b"", 0o000)
    made.write("closed/file", b"").parent.chmod(0o000)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(PackError) as caught:
            made.read()
    finally:
        os.seteuid(user)
        (folder / "closed").chmod(0o755)
        shutil.rmtree(folder)
    assert caught.value.details == ["closed: Permission denied", "secret: Permission denied"]


@pytest.mark.parametrize("path", ["nothing", "file", "folder"])
def test_what_is_no_environment_is_refused_with_a_hint(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PackError, match=path) as caught:
        read_prefix(tmp_path / path)
    assert caught.value.hint


def test_a_broken_record_stops_with_its_name(made: Made) -> None:
    made.write("conda-meta/demo-1-0.json", b"{")
    with pytest.raises(PackError, match=r"conda-meta/demo-1-0\.json"):
        made.read()


def test_files_under_a_folder_that_became_a_link_are_not_missing(made: Made) -> None:
    made.conda("demo", {"lib/x": b"1"})
    (made.prefix / "lib").rename(made.prefix / "lib64")
    (made.prefix / "lib").symlink_to("lib64", target_is_directory=True)
    contents = made.read()
    assert by_path(contents)["lib64/x"][0].id == "conda:demo-1-0"
    assert contents.missing == ()


@pytest.mark.parametrize(
    ("files", "links", "expected"),
    [
        (["bin/python3.11", "bin/python3.9"], {"bin/python": "python3.11"}, ("bin/python3.11", "3.11")),
        (["bin/python3.11", "bin/python3.9"], {}, ("bin/python3.11", "3.11")),
        (["bin/python"], {}, ("bin/python", "")),
        (["bin/perl"], {}, ("", "")),
    ],
)
def test_the_interpreter_is_found(
    made: Made, files: list[str], links: dict[str, str], expected: tuple[str, str]
) -> None:
    for path in files:
        made.write(path, b"", 0o755)
    for path, target in links.items():
        (made.prefix / path).symlink_to(target)
    contents = made.read()
    assert (contents.python, contents.python_version) == expected


def test_the_interpreter_of_the_conda_package(made: Made) -> None:
    made.conda("python", {"bin/python3.11": b"", "bin/python3.12": b""}, version="3.11.7")
    contents = made.read()
    assert (contents.python, contents.python_version) == ("bin/python3.11", "3.11.7")


def test_records_and_history_are_stored_without_the_build_machine(made: Made) -> None:
    prefix = os.fsencode(made.prefix)
    made.conda(
        "demo", {"lib/x": PLACEHOLDER}, link={"source": "/home/me/pkgs", "type": 1}, url="file:///home/me/x.conda"
    )
    made.write("conda-meta/history", b"# cmd: conda create -p " + prefix + b" -c https://me:pw@h.example/c\n")
    contents = made.read()
    record = b"".join(store(contents, "conda-meta/demo-1-0.json").pieces)
    assert b"/home/me" not in record and PLACEHOLDER not in record
    history = store(contents, "conda-meta/history")
    assert history.relocation is not None
    moved = splice(b"".join(history.pieces), splices(history.relocation, b"/new"))
    assert moved == b"# cmd: conda create -p /new -c https://h.example/c\n"


# --- byte-code and its source ---


def pyc(mtime: int, size: int, rest: bytes = b"N") -> bytes:
    stamp = mtime.to_bytes(4, "little") + size.to_bytes(4, "little")
    return b"\xa7\r\r\n" + bytes(4) + stamp + rest


CACHED = "lib/__pycache__/m.cpython-311.pyc"


@pytest.mark.parametrize("recorded", [1600000000, SOURCE_MTIME])
def test_byte_code_compiled_in_the_environment_is_bound_to_the_stored_source(made: Made, recorded: int) -> None:
    made.write("lib/m.py", b"x = 1\n", mtime=1600000000)
    made.write(CACHED, pyc(recorded, 6))
    contents = made.read()
    assert b"".join(store(contents, CACHED).pieces) == pyc(SOURCE_MTIME, 6)
    assert store(contents, "lib/m.py").mtime == SOURCE_MTIME
    assert store(contents, CACHED).relocation is None


def test_stale_byte_code_stays_stale(made: Made) -> None:
    made.write("lib/m.py", b"x = 12\n", mtime=1600000000)
    made.write(CACHED, pyc(1600000000, 6))
    assert b"".join(store(made.read(), CACHED).pieces) == pyc(1600000000, 6)


def test_byte_code_follows_the_size_of_a_source_with_the_prefix_in_it(made: Made) -> None:
    source = b"x = '" + os.fsencode(made.prefix) + b"/a'\ny = '" + os.fsencode(made.prefix) + b"'\n"
    made.write("lib/m.py", source, mtime=1600000000)
    made.write(CACHED, pyc(1600000000, len(source)))
    contents = made.read()
    stored = store(contents, CACHED)
    kept = store(contents, "lib/m.py")
    assert stored.relocation is not None
    assert stored.relocation.bytecode == Bytecode(kept.size, 2, 255)
    moved = splice(b"".join(stored.pieces), splices(stored.relocation, b"/e"))
    assert moved == pyc(SOURCE_MTIME, len(b"x = '/e/a'\ny = '/e'\n"))


def test_a_source_keeps_the_time_that_its_package_s_byte_code_records(made: Made) -> None:
    made.conda("demo", {"lib/m.py": b"x = 1\n", CACHED: pyc(1500000000, 6)})
    contents = made.read()
    assert store(contents, "lib/m.py").mtime == 1500000000
    assert b"".join(store(contents, CACHED).pieces) == pyc(1500000000, 6)
    assert store(contents, CACHED).mtime == SOURCE_MTIME


def test_an_edited_source_of_the_same_size_does_not_become_valid(made: Made) -> None:
    made.conda("demo", {"lib/m.py": b"x = 1\n", CACHED: pyc(1500000000, 6)})
    made.write("lib/m.py", b"x = 2\n")
    contents = made.read()
    stored = store(contents, "lib/m.py")
    assert stored.modified and stored.mtime == SOURCE_MTIME
    assert b"".join(store(contents, CACHED).pieces) == pyc(1500000000, 6)


def test_byte_code_of_the_package_that_python_replaced_is_no_edit(made: Made) -> None:
    made.conda("demo", {"lib/m.py": b"x = 1\n", CACHED: pyc(1500000000, 6)})
    os.utime(made.prefix / "lib/m.py", (1600000000, 1600000000))
    made.write(CACHED, pyc(1600000000, 6))
    contents = made.read()
    stored = store(contents, CACHED)
    assert not stored.modified
    assert b"".join(stored.pieces) == pyc(SOURCE_MTIME, 6)
    assert store(contents, "lib/m.py").mtime == SOURCE_MTIME


def test_published_byte_code_follows_a_source_with_a_placeholder(made: Made) -> None:
    source = b"root = '" + PLACEHOLDER + b"'\n"
    made.conda("demo", {"lib/m.py": source, CACHED: pyc(1500000000, len(source))})
    contents = made.read()
    stored = store(contents, CACHED)
    assert b"".join(stored.pieces) == pyc(1500000000, len(source))
    assert stored.relocation is not None
    moved = splice(b"".join(stored.pieces), splices(stored.relocation, b"/e"))
    assert moved == pyc(1500000000, len(b"root = '/e'\n"))
    assert store(contents, "lib/m.py").mtime == 1500000000


@pytest.mark.parametrize("first", [0, 1], ids=["source first", "byte-code first"])
def test_the_order_of_a_source_and_its_patched_byte_code_does_not_matter(made: Made, first: int) -> None:
    paths = ["lib/p/__init__.py", "lib/p/__pycache__/__init__.cpython-311.pyc"]
    made.conda("demo", {paths[0]: b"x = 1\n", paths[1]: pyc(1500000000, 6, b"(\1\0\0\0s\0\1\0\0" + PLACEHOLDER)})
    contents = made.read()
    normalizer = FileNormalizer(contents.prefix, contents)
    stored = {}
    for path in (paths[first], paths[1 - first]):
        stored[path] = normalizer.normalize(by_path(contents)[path][1], (contents.prefix / path).read_bytes())
    assert stored[paths[0]].mtime == 1500000000
    assert not any(item.modified for item in stored.values())
