"""Deployments on filesystems without locks or hard links, or on which no program can be run."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envpack.bundle.model import Item
from envpack.runtime.commands.verify import verify
from envpack.runtime.deployment.record import read_record
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.fs.links import link_or_copy
from envpack.runtime.report import Reporter
from support.bundle_factory import make_bundle, text
from support.compilers import compile_c
from support.namespaces import namespace
from support.sample_deployments import bundle, state_entries, whole_version

# the C library of a filesystem without locks or links: each call fails with the error number in its variable
STUB = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
static int failed(const char *name) { errno = atoi(getenv(name)); return -1; }
#include <dlfcn.h>
#define CALL(function, variable, parameters, ...)                                  \\
    int function parameters {                                                      \\
        if (getenv(variable)) return failed(variable);                             \\
        return ((int (*) parameters) dlsym(RTLD_NEXT, #function))(__VA_ARGS__);    \\
    }
CALL(flock, "FAIL_FLOCK", (int fd, int how), fd, how)
CALL(link, "FAIL_LINK", (const char *a, const char *b), a, b)
CALL(linkat, "FAIL_LINK", (int a, const char *b, int c, const char *d, int e), a, b, c, d, e)
"""
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stub")
    (folder / "stub.c").write_text(STUB)
    compile_c("-shared", "-fPIC", "-o", folder / "stub.so", folder / "stub.c", "-ldl")
    return folder / "stub.so"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "envpack", *map(str, arguments)]


def on(stub: Path, *arguments: object, code: int = 0, **numbers: int) -> str:
    """Runs envpack where these calls fail with these error numbers; what it says."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(stub),
        **{name: str(number) for name, number in numbers.items()},
    }
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stderr
    return " ".join(done.stderr.split())


# --- no locks ---


@pytest.mark.parametrize(
    "number", [NO_LOCKS[0], *(pytest.param(each, marks=pytest.mark.long) for each in NO_LOCKS[1:])]
)
def test_without_file_locks_deployments_work_with_a_warning(stub: Path, tmp_path: Path, number: int) -> None:
    x = tmp_path / "x"
    for arguments in (("deploy", bundle(tmp_path, "1"), x), ("deploy", bundle(tmp_path, "2"), x), ("rollback", x)):
        said = on(stub, *arguments, FAIL_FLOCK=number)
        assert "has no file locks, so only processes on this host are kept out" in said
    assert whole_version(x) == "1" and state_entries(x) == ["2"]
    assert "no file locks" not in on(stub, "verify", x)
    on(stub, "remove", x, FAIL_FLOCK=number)
    assert not x.exists() and state_entries(x) == []


def test_without_file_locks_processes_of_this_host_are_kept_out(stub: Path, tmp_path: Path) -> None:
    x, go = tmp_path / "x", tmp_path / "go"
    waits = (
        f"touch {shlex.quote(str(tmp_path / 'begun'))}; until test -e {shlex.quote(str(go))}; do sleep 0.05; done"
    )
    slow, new = bundle(tmp_path, "1", test=(waits,)), bundle(tmp_path, "2")
    environment = {**os.environ, "LD_PRELOAD": str(stub), "FAIL_FLOCK": str(errno.ENOSYS)}
    with subprocess.Popen(command("deploy", slow, x), env=environment, stderr=subprocess.DEVNULL) as first:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        said = on(stub, "deploy", new, x, code=10, FAIL_FLOCK=errno.ENOSYS)
        assert "another envpack process has locked" in said
        with subprocess.Popen(
            command("deploy", new, x, "--wait"), env=environment, stderr=subprocess.DEVNULL
        ) as second:
            time.sleep(0.2)
            go.touch()
        assert (first.wait(), second.wait()) == (0, 0)
    assert whole_version(x) == "2"


def test_without_file_locks_a_store_is_refused_with_the_reason(stub: Path, tmp_path: Path) -> None:
    said = on(
        stub,
        *("deploy", bundle(tmp_path, "1"), tmp_path / "x", "--store", tmp_path / "store"),
        code=10,
        FAIL_FLOCK=errno.ENOLCK,
    )
    assert "has no file locks, which a store needs" in said and "Use a store on another filesystem" in said
    assert not (tmp_path / "x").exists()


def test_without_file_locks_a_tree_that_tar_unpacked_is_rewritten(stub: Path, tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    subprocess.run(["tar", "-xf", bundle(tmp_path, "1"), "-C", root], check=True)
    script = "import sys; from envpack.runtime.__main__ import main; sys.exit(main(['unpack', sys.argv[1]]))"
    environment = {**os.environ, "LD_PRELOAD": str(stub), "FAIL_FLOCK": str(errno.ENOSYS)}
    subprocess.run([sys.executable, "-c", script, root], check=True, env=environment)
    assert (root / "bin/tool").read_text() == f"#!/bin/sh\necho {root} 1\n"


# --- no hard links ---


def linked(folder: Path, version: str) -> Path:
    """A bundle with a file that has the prefix in it, a program, and a hard link to each."""
    path = folder / f"links-{version}.tar.gz"
    tool = text("bin/tool", b"#!/bin/sh\necho @ " + version.encode() + b"\n", 0o755)
    data = text("lib/data", b"data " + version.encode())
    items = [tool, hard_link("bin/tool-2", "bin/tool"), data, hard_link("lib/data-2", "lib/data")]
    make_bundle(path, {"environment": items}, version=version)
    return path


def hard_link(path: str, target: str) -> Item:
    return Item(PathRecord(path, "hardlink", target=target))


@pytest.mark.parametrize(
    "number", [NO_LINKS[0], *(pytest.param(each, marks=pytest.mark.long) for each in NO_LINKS[1:])]
)
def test_without_hard_links_files_are_copied_with_a_warning(stub: Path, tmp_path: Path, number: int) -> None:
    x = tmp_path / "x"
    for version in ("1", "2"):
        said = on(stub, "deploy", linked(tmp_path, version), x, FAIL_LINK=number)
        assert "the filesystem has no hard links, so 2 of them in the bundle became copies" in said
    on(stub, "move", x, tmp_path / "y", FAIL_LINK=number)
    y = tmp_path / "y"
    for name in ("tool", "tool-2"):
        assert (y / "bin" / name).read_text() == f"#!/bin/sh\necho {y} 2\n"
        assert os.access(y / "bin" / name, os.X_OK)
    assert not (y / "bin/tool").samefile(y / "bin/tool-2")
    found = verify(y, reporter=Reporter())
    assert not found.changed and not found.missing
    (y / "lib/data-2").write_text("edited")
    on(stub, "repair", y, linked(tmp_path, "2"), FAIL_LINK=number)
    assert (y / "lib/data-2").read_text() == "data 2"
    record = read_record(y)
    assert record is not None and record.version == "2"


def test_with_hard_links_nothing_is_copied(stub: Path, tmp_path: Path) -> None:
    assert "hard links" not in on(stub, "deploy", linked(tmp_path, "1"), tmp_path / "x")
    assert (tmp_path / "x/bin/tool").samefile(tmp_path / "x/bin/tool-2")


def test_no_file_is_copied_over_another(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        link_or_copy(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "b"))
    with pytest.raises(FileNotFoundError):
        link_or_copy(os.fsencode(tmp_path / "none"), os.fsencode(tmp_path / "c"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


# --- noexec ---


def test_where_no_program_can_be_run_the_reason_is_said(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    made = bundle(tmp_path, "1")

    def deploy(*options: str) -> subprocess.CompletedProcess[str]:
        mounted = f'mount -t tmpfs -o noexec none {shlex.quote(str(mount))} && exec "$@"'
        return subprocess.run(
            [*namespace(), "sh", "-c", mounted, "sh", *command("deploy", made, mount / "x", *options)],
            capture_output=True,
            text=True,
        )

    done = deploy()
    assert done.returncode == 10 and "mounted with 'noexec'" in done.stderr and "--no-test" in done.stderr
    done = deploy("--no-test")
    assert done.returncode == 0 and "warning" in done.stderr and "mounted with 'noexec'" in done.stderr


# --- mount points ---


def test_a_bind_mount_of_the_same_filesystem_is_a_mount_point(tmp_path: Path) -> None:
    mount = tmp_path / "a mount"
    mount.mkdir()
    mounted = f'mount --bind {shlex.quote(str(mount))} {shlex.quote(str(mount))} && exec "$@"'
    done = subprocess.run(
        [*namespace(), "sh", "-c", mounted, "sh", *command("deploy", bundle(tmp_path, "1"), mount)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 10 and f"{mount} is a mount point" in done.stderr
