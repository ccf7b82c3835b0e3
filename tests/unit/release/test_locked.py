"""The packages of a lock in a bill of materials."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.lock.model import LockedPypi
from envpack.prefix.owners.pypi import Origin
from envpack.release.locked import is_lock, origin_of

COMMIT, DIGEST = "c" * 40, "d" * 64


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("/home/me/src/app", Origin()),
        ("file:///home/me/app-1.0-py3-none-any.whl", Origin(sha256=DIGEST)),
        (
            "https://me:secret@example.org/app-1.0.tar.gz",
            Origin("https://example.org/app-1.0.tar.gz", sha256=DIGEST),
        ),
        (
            f"git+https://example.org/app.git@{COMMIT}#subdirectory=py",
            Origin("https://example.org/app.git#subdirectory=py", commit=COMMIT),
        ),
    ],
)
def test_the_origin_of_a_locked_package_has_no_secrets_and_no_paths(location: str, origin: Origin) -> None:
    assert origin_of(LockedPypi("app", "1.0", location, "" if "git" in location else DIGEST)) == origin


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 6\nenvironments: {}\npackages: []\n", True),
        ("version: 1\nmetadata: {}\npackage: []\n", True),
        ("# platform: linux-64\n@EXPLICIT\n", True),
        ("name: demo\ndependencies: [python]\n", False),
        ('{"envpack_parts": 1}\n', False),
        ("\0", False),
    ],
)
def test_locks_are_known_by_their_content(tmp_path: Path, text: str, expected: bool) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert is_lock(path) is expected
    assert not is_lock(tmp_path / "missing")
