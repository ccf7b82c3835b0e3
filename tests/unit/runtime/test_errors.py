"""Messages for errors of the operating system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack.runtime.errors import failed_path, of_the_system


def test_a_failed_call_on_a_descriptor_names_no_path(tmp_path: Path) -> None:
    """Python states the descriptor as the file name of such an error."""
    fd = os.open(tmp_path, os.O_RDONLY)
    os.close(fd)
    with pytest.raises(OSError) as caught:
        os.utime(fd, (0, 0))
    assert caught.value.filename in (None, fd)  # which of them depends on the version
    assert failed_path(caught.value) == ""
    assert failed_path(caught.value, tmp_path) == str(tmp_path)
    error = of_the_system(caught.value)
    assert error is not None and error.message == "Bad file descriptor"


@pytest.mark.parametrize("path", ["name", b"name", Path("name")])
def test_a_failed_call_on_a_path_names_it(
    path: str | bytes | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as caught:
        os.truncate(path, 0)
    assert failed_path(caught.value) == "name"
