"""A filesystem that is really full: ``full_disk.py MOUNTPOINT BUNDLES STEP``, in a mount namespace of its own.

A tmpfs is given STEP more inodes, or pages, at a time until an upgrade fits: with 1 it fails wherever it may.
Prints JSON: how often it failed for too few inodes or bytes, and what was wrong then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

tests = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(tests), str(tests.parent / "src")]

from faults import samples  # noqa: E402

PAGE = 4096
FULL = "No space left on device"


def runtime(*argv: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(tests.parent / "src")}
    return subprocess.run(
        [sys.executable, "-S", "-m", "envpack.runtime", *argv], env=environ, capture_output=True, text=True
    )


def mount(place: Path, *options: str) -> None:
    subprocess.run(["mount", *options, "none", place], check=True)


def deploy(bundles: Path, version: str, x: Path) -> subprocess.CompletedProcess[str]:
    return runtime("deploy", "--no-check", "--quiet", str(samples.bundle(bundles, version)), str(x))


def try_until_it_fits(
    disk: Path, bundles: Path, what: str, first: int, unit: int, step: int
) -> tuple[int, list[str]]:
    """Return how often it failed before it fitted, and what was wrong with the rest."""
    x, failures = disk / "x", 0
    wrong: list[str] = []
    before = samples.look(x)
    for more in range(1, 2000, step):
        mount(disk, "-o", f"remount,{what}={first + more * unit}")
        done = deploy(bundles, "2", x)
        if done.returncode == 0:
            return failures, wrong
        failures += 1
        found = []
        if done.returncode != 10 or "Traceback" in done.stderr:
            found.append(done.stderr)
        elif FULL not in done.stderr and " free, but the bundle needs " not in done.stderr:
            found.append(f"it is not said why: {done.stderr}")
        if samples.look(x) != before:
            found.append("it is not as it was")
        if list(disk.iterdir()) != [x]:
            found.append(f"there is {list(disk.iterdir())}")
        wrong += [f"{what} +{more}: {each}" for each in found]
    return failures, [*wrong, "it never fits"]


def main() -> None:
    disk, bundles, step = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    results = {}
    mount(disk, "-t", "tmpfs")
    done = deploy(bundles, "1", disk / "x")
    assert done.returncode == 0, done.stderr
    facts = os.statvfs(disk)
    results["nr_inodes"] = try_until_it_fits(disk, bundles, "nr_inodes", facts.f_files - facts.f_ffree, 1, step)
    runtime("rollback", str(disk / "x"))
    runtime("remove", str(disk / "x"))
    mount(disk, "-o", "remount,nr_inodes=100000")
    done = deploy(bundles, "1", disk / "x")
    assert done.returncode == 0, done.stderr
    facts = os.statvfs(disk)
    used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    size = sum(path.stat().st_size for path in (disk / "x").rglob("*") if path.is_file() and not path.is_symlink())
    results["size"] = try_until_it_fits(disk, bundles, "size", used + size - 3 * PAGE, PAGE, step)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
