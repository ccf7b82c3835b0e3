"""Packages that are damaged or hostile: the build ends with an error that names them, and writes nowhere else."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from envpack.build.build import build_prefix
from envpack.build.install_worker import wrong_path
from envpack.build.location import choose_prefix
from envpack.build.rattler_process import Request, install
from envpack.lock.solve import PackageSources
from envpack.runtime.errors import BuildError
from envpack.spec.parse import parse_spec

SPEC = "name: x\ndependencies: [odd]\nenvpack: {platform: linux-64}\n"
INDEX = {"name": "odd", "version": "1", "build": "0", "build_number": 0, "subdir": "noarch", "depends": []}
SHA256_OF_X = hashlib.sha256(b"x").hexdigest()


def channel(folder: Path, members: Sequence[tuple[str, bytes | str]], index: dict[str, Any] = INDEX) -> str:
    """A channel with one package of these members; a text is the target of a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as archive:
        for name, content in (("info/index.json", json.dumps(index).encode()), *members):
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname, content = tarfile.SYMTYPE, content, b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    package = buffer.getvalue()
    record = {**INDEX, "sha256": hashlib.sha256(package).hexdigest(), "size": len(package)}
    for subdir, packages in (("noarch", {"odd-1-0.tar.bz2": record}), ("linux-64", {})):
        (folder / subdir).mkdir(parents=True)
        repodata = {"info": {"subdir": subdir}, "packages": packages}
        (folder / subdir / "repodata.json").write_text(json.dumps(repodata))
    (folder / "noarch" / "odd-1-0.tar.bz2").write_bytes(package)
    return folder.as_uri()


def paths_json(*paths: str, kind: str = "hardlink") -> tuple[str, bytes]:
    entries = [{"_path": path, "path_type": kind} for path in paths]
    if kind == "hardlink":
        entries = [{**entry, "sha256": SHA256_OF_X, "size_in_bytes": 1} for entry in entries]
    return "info/paths.json", json.dumps({"paths": entries, "paths_version": 1}).encode()


def build(url: str, tmp_path: Path) -> Path:
    prefix = choose_prefix(tmp_path / "work")
    spec = parse_spec(SPEC, str(tmp_path / "x.yml"))
    return build_prefix(spec, prefix, sources=PackageSources([url]), cache_dir=tmp_path / "cache").prefix


def refused(url: str, tmp_path: Path) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(url, tmp_path)
    assert list((tmp_path / "work" / "p").iterdir()) == []
    return caught.value


@pytest.mark.parametrize("path", ["/tmp/file", "../file", "share/../../file", "share/a\0b", "", ".", "a" * 256])
def test_a_path_outside_of_the_environment_is_refused_with_its_package(tmp_path: Path, path: str) -> None:
    error = refused(channel(tmp_path / "channel", [("share/ok", b"x"), paths_json("share/ok", path)]), tmp_path)
    shown = f"{path[:80]}..." if len(path) > 80 else "" if path == "." else path
    assert error.message == f"the package odd-1-0.tar.bz2 has a file with a path that is not allowed: {shown!r}"


def test_a_source_outside_of_the_cache_is_not_read(tmp_path: Path) -> None:
    """rattler copies PACKAGE/PATH to PREFIX/PATH: both can be made to exist."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/secret").write_text("x")
    refused(channel(tmp_path / "channel", [paths_json("../../secret")]), tmp_path)
    assert not (tmp_path / "work/secret").exists()


def test_paths_of_a_package_without_paths_json_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/secret").write_text("x")
    error = refused(channel(tmp_path / "channel", [("info/files", b"../../secret\n")]), tmp_path)
    assert "'../../secret'" in error.message


def test_a_panic_of_rattler_is_an_error_with_its_message(tmp_path: Path) -> None:
    """rattler panics where the name inside a package is not that of the index."""
    other = {**INDEX, "name": "other"}
    error = refused(channel(tmp_path / "channel", [paths_json()], other), tmp_path)
    assert error.message.startswith("rattler, which installs the conda packages, failed unexpectedly")
    assert any("panicked at" in line for line in error.details)
    assert not any("backtrace" in line for line in error.details)


def test_a_process_that_ends_at_once_is_an_error_however_long_its_request_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    request = Request([], tmp_path / "prefix", tmp_path / "cache", "linux-64", ["a" * 66_000])
    with pytest.raises(BuildError, match=r"failed unexpectedly \(exit 1\)"):
        install(request, print)


@pytest.mark.parametrize("file", ["conda-meta/history", "conda-meta/odd-1-0.json"])
def test_a_packages_link_in_conda_meta_is_not_followed(tmp_path: Path, file: str) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    members = [(file, str(mine)), paths_json(file, kind="softlink")]
    prefix = build(channel(tmp_path / "channel", members), tmp_path)
    assert mine.read_text() == "mine"
    assert not (prefix / file).is_symlink()


def test_a_packages_file_in_conda_meta_is_left_as_it_is_in_the_cache(tmp_path: Path) -> None:
    members = [("conda-meta/history", b"x"), paths_json("conda-meta/history")]
    build(channel(tmp_path / "channel", members), tmp_path)
    assert (tmp_path / "cache/pkgs/odd-1-0/conda-meta/history").read_bytes() == b"x"


@pytest.mark.parametrize("path", ["a", "a/b", "..a/b..", "lib/a b", "a" * 255, "/".join(["a"] * 128)])
def test_every_other_path_is_taken(path: str) -> None:
    assert wrong_path([Path(path)]) is None
