"""An output that lies in the environment is not packed into itself, nor into the one that replaces it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from envpack.runtime.commands.deploy import deploy
from envpack.runtime.report import Reporter
from support.forked import envpack
from support.small_prefix import SmallPrefix


def pack(cwd: Path, *arguments: str) -> None:
    done = envpack("pack", *arguments, cwd=cwd, env={**os.environ, "ENVPACK_CACHE": ""})
    assert done.returncode == 0, done.stderr


@pytest.fixture
def made(tmp_path: Path) -> SmallPrefix:
    made = SmallPrefix(tmp_path / "env")
    made.write("lib/data", "x")
    return made


@pytest.mark.parametrize("folder", [".", "dist/new"])
def test_a_bundle_is_not_in_the_one_that_replaces_it(made: SmallPrefix, folder: str, tmp_path: Path) -> None:
    made.write(f"{folder}/other", "x")
    (tmp_path / "link").symlink_to(made.path)
    output = f"{tmp_path}/link/{folder}/b.tar.gz"
    pack(made.path, "-p", ".", "-o", output)
    first = Path(output).read_bytes()
    for name in ("b.tar.gz.sha256", "b.tar.gz.minisig", ".b.tar.gz.envpack-0123456789abcdef"):
        made.write(f"{folder}/{name}", "of the bundle before")
    made.write(f"{folder}/.b.tar.gz.envpack-0123456789abcdee/prefix/x", "of a command that was killed")
    pack(made.path, "-p", ".", "-o", output, "-f")
    assert Path(output).read_bytes() == first
    made.write(f"{folder}/c.tar.gz.sha256", "something else")
    pack(made.path, "-p", ".", "-o", output, "-f")
    deploy(Path(output), tmp_path / "to", reporter=Reporter())
    assert (tmp_path / "to" / folder / "c.tar.gz.sha256").read_text() == "something else"


def test_an_archive_is_not_in_the_one_that_replaces_it(made: SmallPrefix) -> None:
    for force in ((), ("-f",)):
        pack(made.path, "-p", ".", "-o", "b.zip", *force)
    names = zipfile.ZipFile(made.path / "b.zip").namelist()
    assert "lib/data" in names and "b.zip" not in names
