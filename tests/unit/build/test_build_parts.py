"""The location of a build, and the commands of conda, mamba and micromamba."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack.build.backends import CommandBackend, InstallJob, InstallProgress, choose_backend
from envpack.build.location import PREFIX_LENGTH, choose_prefix
from envpack.build.rattler_process import default_cache
from envpack.lock.model import LockedPlatform
from envpack.runtime.errors import BuildError
from envpack.runtime.report import Reporter, Step


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({}, "home/.cache/rattler/cache/pkgs"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/rattler/cache/pkgs"),
        ({"XDG_CACHE_HOME": "relative"}, "home/.cache/rattler/cache/pkgs"),
        ({"XDG_CACHE_HOME": "/x", "RATTLER_CACHE_DIR": "/y"}, "/y/pkgs"),
    ],
)
def test_the_package_cache_is_rattlers_own(monkeypatch, tmp_path, variables, cache):
    for name in ("XDG_CACHE_HOME", "RATTLER_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**variables, "HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    assert default_cache() == tmp_path / cache


@pytest.mark.parametrize("length", [1, 50, 120, 207])
def test_the_build_prefix_has_exactly_the_length_that_leaves_room_to_move(length):
    work = Path("/" + "w" * (length - 1))
    prefix = choose_prefix(work)
    assert len(os.fsencode(prefix)) == PREFIX_LENGTH
    assert prefix.parent == work / "p"


def test_bytes_are_counted_and_not_characters():
    assert len(os.fsencode(choose_prefix(Path("/werk-für-später")))) == PREFIX_LENGTH


def test_a_work_folder_too_long_to_pad_is_refused():
    with pytest.raises(BuildError, match="is too long: 208 bytes, at most 207"):
        choose_prefix(Path("/" + "w" * 207))


def test_a_backend_that_is_not_there_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="needs the program micromamba, which is not on the PATH"):
        choose_backend("micromamba")
    with pytest.raises(BuildError, match="there is no backend 'apt'"):
        choose_backend("apt")
    assert choose_backend("rattler").name == "rattler"


def test_other_programs_get_the_exact_list_and_their_failure_is_reported(monkeypatch, tmp_path):
    program = tmp_path / "mamba"
    program.write_text(
        '#!/bin/sh\nfor word; do last=$word; done\ncat "$last"; echo "$@"\n'
        "echo 'HTTP 403 for https://me:pw@h.example/r/t/tk-1/a/noarch/x-1-0.conda' >&2; exit 3\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    backend = choose_backend("mamba")
    assert isinstance(backend, CommandBackend)
    prefix = tmp_path / "work" / "prefix"
    with pytest.raises(BuildError, match=r"mamba could not install the packages \(exit 3\)") as caught:
        backend.install(InstallJob(LockedPlatform(()), "linux-64", prefix), Reporter())
    explicit = tmp_path / "work" / "explicit.txt"
    assert caught.value.details == [
        "# platform: linux-64",
        "@EXPLICIT",
        f"create --yes --quiet --prefix {prefix} --file {explicit}",
        "HTTP 403 for https://***@h.example/r/t/***/a/noarch/x-1-0.conda",
    ]
    assert not explicit.exists()


def test_progress_counts_every_package_once_however_it_arrives():
    class Counting(Step):
        so_far = 0

        def advance(self, amount: int = 1) -> None:
            self.so_far += amount

    class Package:
        def __init__(self, name: str, size: int) -> None:
            self.name = type("Name", (), {"normalized": name})
            self.size = size

    step = Counting()
    progress = InstallProgress(step, [Package("a", 100), Package("b", 50)])  # type: ignore[list-item]
    progress(["downloaded", "a", 60])
    progress(["downloaded", "a", 60])
    assert step.so_far == 60
    progress(["linking", "a"])
    progress(["linked", "a"])
    assert step.so_far == 100
    progress(["linked", "b"])
    assert step.so_far == 150
