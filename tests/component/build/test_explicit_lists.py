"""Lists of conda packages by URL that name local files and URLs as conda writes and takes them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from envpack.build.build import build_prefix
from envpack.build.location import choose_prefix
from envpack.lock.inputs import load_input
from envpack.lock.model import Lock, read_lock, write_lock
from envpack.runtime.errors import BuildError, SpecError


def package(folder: Path, subdir: str, version: str = "1.0") -> Path:
    """A package with one file; ``subdir`` is what its own index says."""
    noarch = {"noarch": "generic"} if subdir == "noarch" else {}
    index = {"name": f"tool-{subdir}", "version": version, "build": "0", "build_number": 0, "depends": []}
    index |= {"subdir": subdir, **noarch}
    paths = {"paths": [{"_path": "share/tool", "path_type": "hardlink"}], "paths_version": 1}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{index['name']}-{version}-0.tar.bz2"
    members = {"info/index.json": json.dumps(index), "info/paths.json": json.dumps(paths), "share/tool": "x"}
    with tarfile.open(file, "w:bz2") as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    folder_of_index = {"info": {"subdir": folder.name}, "packages": {file.name: index}}
    (folder / "for-repodata.json").write_text(json.dumps(folder_of_index))
    return file


def listed(tmp_path: Path, *urls: str) -> Lock:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(["@EXPLICIT", *urls, ""]))
    lock = load_input(path)
    assert isinstance(lock, Lock)
    return lock


def as_channel(folder: Path) -> None:
    (folder / "for-repodata.json").rename(folder / "repodata.json")


@pytest.mark.parametrize("cache", ["opt/pkgs", "pkgs", "linux-tools"])
def test_files_may_lie_in_a_package_cache(tmp_path: Path, cache: str) -> None:
    files = [package(tmp_path / cache, subdir) for subdir in ("linux-64", "noarch")]
    lock = listed(tmp_path, *(file.as_uri() for file in files))
    assert lock.channels == ()
    assert [record.url for record in lock.platform("linux-64").conda] == [file.as_uri() for file in files]
    write_lock(lock, tmp_path / "x.lock")
    prefix = choose_prefix(tmp_path / "work")
    build_prefix(read_lock(tmp_path / "x.lock"), prefix, cache_dir=tmp_path / "rattler")
    assert (prefix / "share" / "tool").read_text() == "x"
    assert len(list((prefix / "conda-meta").glob("tool-*.json"))) == 2


def test_the_platform_of_a_cached_package_is_in_the_package(tmp_path: Path) -> None:
    lock = listed(tmp_path, package(tmp_path / "pkgs", "linux-aarch64").as_uri())
    assert list(lock.platforms) == ["linux-aarch64"]
    files = [package(tmp_path / "pkgs", subdir).as_uri() for subdir in ("linux-64", "linux-aarch64")]
    with pytest.raises(SpecError, match="contains packages for linux-64, linux-aarch64, expected one of"):
        listed(tmp_path, *files)
    with pytest.raises(SpecError, match="contains packages for osx-arm64, expected one of"):
        listed(tmp_path, package(tmp_path / "pkgs", "osx-arm64").as_uri())


def test_a_file_that_is_not_in_the_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        listed(tmp_path, (tmp_path / "pkgs" / "tool-1.0-0.conda").as_uri())
    assert caught.value.details == [f"{tmp_path}/list.txt:2: {tmp_path.as_uri()} does not list tool-1.0-0.conda"]


def test_other_folders_on_a_server_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="contains packages for pkgs, expected one of"):
        listed(tmp_path, "https://h/pkgs/tool-1.0-0.conda")


def test_urls_may_have_escapes(tmp_path: Path) -> None:
    file = package(tmp_path / "channel" / "linux-64", "linux-64", "1!164.3095")
    as_channel(file.parent)
    package(tmp_path / "channel" / "noarch", "noarch")
    as_channel(tmp_path / "channel" / "noarch")
    url = f"{file.parent.as_uri()}/{file.name.replace('!', '%21')}"
    lock = listed(tmp_path, url)
    (record,) = lock.platform("linux-64").conda
    assert (record.file_name, record.url) == (file.name, url)
    assert lock.channels == (f"{tmp_path.as_uri()}/channel/",)
