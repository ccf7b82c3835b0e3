"""Opening of files for reading: what is no regular file is refused at once."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.runtime.fs.io import NotRegularFileError, create_file, open_regular, read_file


def make(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o666)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "device", "directory"])
def test_anything_else_than_a_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    make(kind, path)
    reason = "Is a directory" if kind == "directory" else f"it is a {kind.split()[-1]}, not a regular file"
    for read in (read_file, open_regular):
        with pytest.raises(NotRegularFileError) as caught:
            read(path)
        assert caught.value.strerror == reason
        assert caught.value.filename == str(path)


def test_a_regular_file_is_read_completely_or_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("x")
    assert read_file(tmp_path / "x") == b"0123456789"
    assert read_file(tmp_path / "link", 3) == b"012"
    assert read_file("/proc/self/stat").startswith(str(os.getpid()).encode())  # its size is 0


def test_a_nul_in_a_path_is_an_error_of_the_operating_system() -> None:
    with pytest.raises(OSError, match="NUL in it"):
        read_file("/a\0b")


def test_a_pipe_that_the_shell_opened_is_read_where_a_user_names_a_file() -> None:
    read = "import sys; from envpack.runtime.fs.io import read_file; print(read_file(sys.argv[1], stream=True))"
    script = f"{shlex.quote(sys.executable)} -c '{read}' <(sleep 0.1; echo late)"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("b'late\\n'\n", "")


def test_a_pipe_with_a_name_is_not(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(NotRegularFileError):
        read_file(tmp_path / "x", stream=True)


def test_a_pipe_that_never_ends_is_too_long() -> None:
    source, target = os.pipe()
    with os.fdopen(source), subprocess.Popen(["yes"], stdout=target) as endless:
        os.close(target)
        with pytest.raises(OSError, match="longer than 64 MiB"):
            read_file(f"/dev/fd/{source}", stream=True)
        endless.kill()


def test_a_file_that_cant_be_removed_after_a_failure_is_reported_as_such(tmp_path: Path) -> None:
    """A caller that then tries another way would find a file there, and report that instead."""
    path = tmp_path / "x"

    def fill(fd: int) -> None:
        path.unlink()
        path.mkdir()
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    with pytest.raises(IsADirectoryError) as caught:
        create_file(os.fsencode(path), 0o644, None, fill)
    assert isinstance(caught.value.__context__, OSError) and caught.value.__context__.errno == errno.EOPNOTSUPP
