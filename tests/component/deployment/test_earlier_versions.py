"""Bundles, deployments and stores that an earlier version of envpack made: this one reads and changes them.

``tests/data/earlier`` has an archive for each commit, made by its own code: the bundles demo-1 to demo-3 of
``sample_deployments``; ``x``, where 2 was deployed over 1; ``y``, the same with the store ``store``. Unpacked
here, they lie in another folder than they were made in, as what somebody moved.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envpack.runtime.__main__ import main
from support.sample_deployments import beside, whole

DATA = Path(__file__).resolve().parents[2] / "data" / "earlier"


@pytest.fixture(params=sorted(path.name for path in DATA.iterdir()))
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "earlier"
    folder.mkdir()
    subprocess.run(["tar", "-xzf", DATA / request.param, "-C", folder], check=True)
    return folder


def run(*words: object) -> None:
    done = subprocess.run([sys.executable, "-m", "envpack", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", "123")
def test_its_bundles_are_read_and_deployed(earlier: Path, version: str) -> None:
    bundle = earlier / f"demo-{version}.tar.gz"
    for command in ("inspect", "verify"):
        run(command, bundle)
    run("deploy", bundle, earlier / "new", "--no-check")
    assert whole(earlier / "new") == version


@pytest.mark.parametrize("name", "xy")
def test_its_deployments_are_upgraded_rolled_back_moved_and_removed(earlier: Path, name: str) -> None:
    root, moved = earlier / name, earlier / "moved"
    store = ("--store", earlier / "store") if name == "y" else ()
    assert main(["unpack", str(root)]) == 0
    assert whole(root) == "2" and beside(root) == ["1"]
    run("verify", root)
    run("history", root)
    run("deploy", earlier / "demo-3.tar.gz", root, "--no-check", *store)
    assert whole(root) == "3" and beside(root) == ["2"]
    run("rollback", root)
    assert whole(root) == "2"
    run("move", root, moved)
    assert whole(moved) == "2"
    run("verify", moved)
    run("remove", moved)
    assert not moved.exists() and not root.exists()


def test_its_store_is_used_and_collected(earlier: Path) -> None:
    segments = earlier / "store/1/segments"
    before = sorted(segments.glob("*/*"))
    run("deploy", earlier / "demo-2.tar.gz", earlier / "z", "--no-check", "--store", earlier / "store")
    assert whole(earlier / "z") == "2" and sorted(segments.glob("*/*")) == before
    run("gc", "--store", earlier / "store")
    for name in "zy":
        run("remove", earlier / name)
    run("gc", "--store", earlier / "store")
    assert not list(segments.glob("*/*"))
