"""Filesystems of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def namespace() -> list[str]:
    """Return the program that runs a command in a mount namespace of its own."""
    ways = [["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]]
    for way in ways[os.geteuid() != 0 :]:
        attempt = [*way, "mount", "-t", "tmpfs", "none", "/mnt"]
        if shutil.which("unshare") and subprocess.run(attempt, capture_output=True).returncode == 0:
            return way
    pytest.skip("mounting is not permitted here")


@contextmanager
def cloning_filesystem(folder: Path) -> Iterator[Path]:
    """Mount a filesystem that can clone files below ``folder``; skip the test where that is not possible."""
    maker = next((name for name in ("mkfs.btrfs", "mkfs.xfs") if shutil.which(name)), None)
    if maker is None or os.geteuid() != 0:
        pytest.skip("needs root and mkfs.btrfs or mkfs.xfs")
    image, mount = folder / "image", folder / "mount"
    with image.open("wb") as out:
        out.truncate(400 << 20)
    mount.mkdir()
    subprocess.run([maker, "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, mount], capture_output=True).returncode:
        pytest.skip("no loop mounts here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)
