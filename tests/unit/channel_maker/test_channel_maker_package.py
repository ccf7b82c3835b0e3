"""The .conda file and the rewriting of a Python's own prefix."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conda_package_handling import api

from channel_maker.package import (
    Inline,
    Link,
    OnDisk,
    PackageFile,
    PackageIdentity,
    PackageMetadata,
    placeholder_for,
    write_conda,
)
from channel_maker.python_files import prefix_rewriter

IDENTITY = PackageIdentity("demo", "1.0", "h0_3", "linux-64")
FILES = [
    PackageFile("share/b.txt", Inline(b"with /P in it"), prefix_mode="text"),
    PackageFile("bin/a", Inline(b"#!/bin/sh\n"), executable=True),
    PackageFile("bin/link", Link("a")),
    PackageFile("bin/dangling", Link("../nowhere")),
]


def write(path: Path, files: list[PackageFile]) -> bytes:
    metadata = PackageMetadata(depends=("python",), license="MIT")
    write_conda(path, IDENTITY, metadata, files, placeholder="/P", epoch=1_700_000_000)
    return path.read_bytes()


def test_the_placeholder_has_the_length_conda_build_pads_to() -> None:
    for name in ("python", "a-very-long-package-name-" * 12):
        assert len(placeholder_for(name, 1_704_067_200)) == 255
        assert len(placeholder_for(name, 0)) == 255


def test_equal_contents_give_equal_bytes_whatever_their_order(tmp_path: Path) -> None:
    assert write(tmp_path / "a.conda", FILES) == write(tmp_path / "b.conda", FILES[::-1])


def test_licences_lie_where_conda_build_puts_them(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Permission is granted")
    package, metadata = tmp_path / f"{IDENTITY.stem}.conda", PackageMetadata()
    licences = {"zlib/copyright": OnDisk(tmp_path / "text")}
    write_conda(package, IDENTITY, metadata, FILES, placeholder="/P", epoch=0, licences=licences)
    api.extract(str(package), str(tmp_path / "out"))
    assert (tmp_path / "out/info/licenses/zlib/copyright").read_text() == "Permission is granted"
    assert json.loads((tmp_path / "out/info/about.json").read_text())["license_file"] == ["zlib/copyright"]
    assert "copyright" not in (tmp_path / "out/info/files").read_text()


def test_condas_own_library_reads_the_package(tmp_path: Path) -> None:
    package = tmp_path / f"{IDENTITY.stem}.conda"
    write(package, FILES)
    out = tmp_path / "out"
    api.extract(str(package), str(out))
    assert (out / "bin/a").stat().st_mode & 0o777 == 0o755
    assert (out / "share/b.txt").stat().st_mode & 0o777 == 0o644
    assert (out / "bin/link").readlink() == Path("a")
    index = json.loads((out / "info/index.json").read_text())
    assert (index["name"], index["build_number"], index["subdir"]) == ("demo", 3, "linux-64")
    assert index["depends"] == ["python"]
    assert index["timestamp"] == 1_700_000_000_000
    assert (out / "info/files").read_text().split() == ["bin/a", "bin/dangling", "bin/link", "share/b.txt"]
    assert (out / "info/has_prefix").read_text() == "/P text share/b.txt\n"
    records = {record["_path"]: record for record in json.loads((out / "info/paths.json").read_text())["paths"]}
    assert records["bin/link"]["path_type"] == "softlink"
    assert records["bin/link"]["sha256"] == hashlib.sha256(b"#!/bin/sh\n").hexdigest()
    assert records["bin/dangling"]["size_in_bytes"] == 0
    assert records["share/b.txt"]["prefix_placeholder"] == "/P"
    assert records["share/b.txt"]["file_mode"] == "text"
    assert "prefix_placeholder" not in records["bin/a"]


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("lib/x.py", b"a=/opt/py/lib b=/opt/py", b"a=@/lib b=@"),
        ("lib/x.py", b"/opt/python /opt/py2", b"/opt/python /opt/py2"),
        ("Makefile", b"-L/opt/py/lib -Wl,-rpath,/opt/py/lib", b"-L@/lib -Wl,-rpath,@/lib"),
    ],
)
def test_a_private_prefix_is_replaced_everywhere(path: str, before: bytes, after: bytes) -> None:
    assert prefix_rewriter(Path("/opt/py"), "3.11", "@")(path, before) == after


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("bin/pydoc3.11", b"#! /usr/bin/python3.11\n/usr/bin/env", b"#!@/bin/python3.11\n/usr/bin/env"),
        ("bin/x", b"#!/usr/bin/env python", b"#!/usr/bin/env python"),
        ("lib/python3.11/cgi.py", b"'/usr/lib/python3.11'", b"'/usr/lib/python3.11'"),
        ("lib/Makefile", b"prefix= /usr\nA=/usr/lib/python3.11/x", b"prefix= @\nA=@/lib/python3.11/x"),
        ("lib/Makefile", b"/usr/lib/python3.12 /usr/bin/install", b"/usr/lib/python3.12 /usr/bin/install"),
        ("lib/_sysconfigdata_x.py", b"'LIBDIR': '/usr/lib', '-L/usr/lib'", b"'LIBDIR': '@/lib', '-L@/lib'"),
        ("lib/_sysconfigdata_x.py", b"'/usr/lib/x86_64-linux-gnu'", b"'/usr/lib/x86_64-linux-gnu'"),
        ("lib/_sysconfigdata_x.py", b"./usr/lib x/usr", b"./usr/lib x/usr"),
        ("lib/pkgconfig/python3.pc", b"prefix=/usr\nlibdir=${prefix}/lib", b"prefix=@\nlibdir=${prefix}/lib"),
    ],
)
def test_a_prefix_the_system_shares_is_replaced_only_where_python_is_meant(
    path: str, before: bytes, after: bytes
) -> None:
    assert prefix_rewriter(Path("/usr"), "3.11", "@")(path, before) == after


def test_a_linked_prefix_is_replaced_in_both_spellings(tmp_path: Path) -> None:
    real = tmp_path / "py-3.11"
    real.mkdir()
    link = tmp_path / "py"
    link.symlink_to(real)
    rewrite = prefix_rewriter(link, "3.11", "@")
    assert rewrite("x", f"{link}/lib {real}/lib".encode()) == b"@/lib @/lib"
