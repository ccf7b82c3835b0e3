"""Packages that were installed in a deployment, or removed from it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.verify import verify
from envpack.runtime.tree.package_changes import PackageChanges, package_changes
from support.conda_records import SITE_PACKAGES, CondaEnvironment
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A deployment with two packages of conda and one of pip."""
    made = CondaEnvironment(tmp_path / "env")
    made.install("my-tool", {"share/tool": b"1"})
    made.install("pure", {"site-packages/pure.py": b""}, noarch=True)
    distribution(made.prefix, "My.Dist", "1.0")
    return SmallPrefix(made.prefix).moved(tmp_path)


def distribution(root: Path, name: str, version: str, installer: str = "pip", newer: float = 60) -> None:
    folder = root / SITE_PACKAGES / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "INSTALLER").write_text(f"{installer}\n")
    (folder / "RECORD").write_text(
        f"{folder.name}/METADATA,,\n{folder.name}/INSTALLER,,\n{folder.name}/RECORD,,\n"
    )
    os.utime(folder / "RECORD", (time.time() + newer,) * 2)


def change(root: Path) -> None:
    later = CondaEnvironment(root)
    later.install("later", {"share/later": b"1"})
    record = json.loads((root / "conda-meta/pure-1.0-0.json").read_text())
    (root / "conda-meta/pure-1.0-0.json").unlink()
    (root / "conda-meta/pure-2.0-py_1.json").write_text(json.dumps({**record, "version": "2.0", "build": "py_1"}))
    (root / "conda-meta/my-tool-1.0-0.json").unlink()
    distribution(root, "newer", "3")
    distribution(root, "of_conda", "3", "conda")


FOUND = "installed later 1.0, newer 3, pure 2.0; removed my-tool 1.0, pure 1.0"


def test_a_deployment_is_unchanged(root: Path) -> None:
    assert not package_changes(root, int(time.time()))


def test_packages_of_a_bundle_are_no_change_whatever_the_clock_says(root: Path) -> None:
    assert not package_changes(root, 0)


def test_what_conda_and_pip_changed_is_found(root: Path) -> None:
    change(root)
    found = package_changes(root, int(time.time()))
    assert found == PackageChanges(("later 1.0", "newer 3", "pure 2.0"), ("my-tool 1.0", "pure 1.0"))
    assert str(found) == FOUND


def test_verify_names_them(root: Path) -> None:
    change(root)
    told = RecordingReporter()
    assert verify(root, reporter=told).missing
    assert told.warnings == [f"packages were changed since it was deployed: {FOUND}"]


def test_an_upgrade_warns_and_the_generation_with_them_stays(root: Path, tmp_path: Path) -> None:
    told = RecordingReporter()
    change(root)
    bundle = tmp_path / "b.tar.zst"
    deploy(bundle, root, DeployOptions(keep=0), reporter=told, decoders=FAST)
    assert FOUND in told.warnings[0] and "generation 1 was not removed" in told.warnings[1]
    told = RecordingReporter()
    deploy(bundle, root, reporter=told, decoders=FAST)
    assert not any(FOUND in text for text in told.warnings)


def test_a_broken_manifest_shows_no_changes(root: Path) -> None:
    (root / ".envpack/manifest.json").write_text("{")
    assert not package_changes(root, 0)
