"""``envpack diff`` of real bundles, deployments and manifests, and what an upgrade really reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from envpack.cli.commands.schema import load
from envpack.runtime.format.layout import MANIFEST_PATH
from envpack.runtime.format.manifest import Package
from support.bundle_factory import file, make_bundle
from support.forked import envpack as forked
from support.servers import serving

HOSTILE = "evil\x1b]0;owned\x07"
BASE = Package("conda", "base", "1.0", segment="base", size=1_000_000)
APP = Package("pypi", "app", "1.0", segment="app", size=400_000)
DATA = {name: os.urandom(size) for name, size in (("base", 1_000_000), ("one", 400_000), ("two", 500_000))}


def envpack(
    *arguments: object, stdin: Any = subprocess.DEVNULL, **environ: str
) -> subprocess.CompletedProcess[str]:
    if stdin == subprocess.DEVNULL:
        return forked(*arguments)
    return subprocess.run(
        [sys.executable, "-m", "envpack", *map(str, arguments)],
        stdin=stdin,
        capture_output=True,
        text=True,
    )


def result(*arguments: object) -> dict[str, Any]:
    document = json.loads(envpack("diff", "--json", *arguments).stdout)
    jsonschema.validate(document, load("diff"))
    found: dict[str, Any] = document["result"]
    return found


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "demo-1.0.tar.gz"
    segments = {"base": [file("lib/base", DATA["base"])], "app": [file("lib/app", DATA["one"])]}
    make_bundle(path, segments, name="demo", version="1.0", packages=(BASE, APP), variables={"MODE": "fast"})
    return path


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("new") / "demo-1.1.tar.gz"
    segments = {
        "base": [file("lib/base", DATA["base"])],
        "app": [file("lib/app", DATA["two"]), file(f"lib/{HOSTILE}", b"")],
    }
    packages = (BASE, Package("pypi", "app", HOSTILE, segment="app", size=500_000))
    make_bundle(path, segments, name="demo", version="1.1", packages=packages, variables={"MODE": "exact"})
    return path


def test_two_bundles(old: Path, new: Path) -> None:
    shown = envpack("diff", old, new)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] in ("demo 1.0 → 1.1", "demo 1.0 -> 1.1")
    assert "packages: 1 changed, 1 unchanged" in lines
    assert "variables" in lines and "    - fast" in lines and "    + exact" in lines
    assert "files: 1 added, 1 changed" in lines and "  2 files of these packages (-v)" in lines
    assert "  ~ lib/app" in envpack("diff", "-v", old, new).stdout.splitlines()
    assert "\x1b" not in shown.stdout and "evil" in shown.stdout
    found = result(old, new)
    assert [(change["change"], change["name"], change["fields"]) for change in found["packages"]] == [
        ("changed", "app", ["version"])
    ]
    assert found["files"] == {"added": [f"lib/{HOSTILE}"], "removed": [], "changed": ["lib/app"]}


def test_an_upgrade_reads_what_diff_says(old: Path, new: Path, tmp_path: Path) -> None:
    deployed = tmp_path / "deployed"
    assert envpack("deploy", "--no-check", "--no-test", old, deployed).returncode == 0
    with serving({"/b.tar.gz": new.read_bytes()}) as server:
        told = result(deployed, f"{server.url}/b.tar.gz")
        assert server.served < 200_000
        server.reset()
        done = envpack("deploy", "--no-check", "--no-test", f"{server.url}/b.tar.gz", deployed)
        assert done.returncode == 0, done.stderr
        assert told["upgrade"]["segments"] == 1
        assert told["upgrade"]["stored"] > 500_000
        # besides the segment, the head is read, in one request of fixed size
        assert 0 <= server.served - told["upgrade"]["stored"] < 200_000
    assert result(new, deployed)["packages"] == []


def test_a_published_manifest_stands_for_its_bundle(old: Path, new: Path, tmp_path: Path) -> None:
    deployed = tmp_path / "deployed"
    assert envpack("deploy", "--no-check", "--no-test", old, deployed).returncode == 0
    manifest = tmp_path / "demo-1.0.manifest.json"
    manifest.write_bytes((deployed / MANIFEST_PATH).read_bytes())
    found = result(manifest, new)
    assert (found["files"], found["upgrade"], len(found["packages"])) == (None, None, 1)
    assert "files: not compared" in envpack("diff", manifest, new).stdout


def test_a_bundle_from_standard_input(old: Path, new: Path) -> None:
    with old.open("rb") as file:
        done = envpack("diff", "-", new, stdin=file)
    assert done.returncode == 0 and "1 changed" in done.stdout


def test_markdown_has_nothing_but_markdown(old: Path, new: Path) -> None:
    done = envpack("diff", "--markdown", old, new)
    assert done.stdout.startswith("## demo 1.0 → 1.1\n") and "\x1b" not in done.stdout
    assert "| app (pypi) | 1.0 | evil" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    {
        "missing": (("{old}", "missing.tar.gz"), 6, "missing.tar.gz"),
        "missing manifest": (("{old}", "missing.manifest.json"), 6, "missing.manifest.json"),
        "one": (("{old}",), 2, "missing"),
        "no deployment": (("{old}", "{folder}"), 6, "is not an environment that envpack unpacked"),
        "standard input twice": (("-", "-"), 2, "only one"),
        "two forms": (("--json", "--markdown", "{old}", "{old}"), 2, "--markdown"),
        "no manifest": (("{text}", "{old}"), 6, "notes.json"),
    }.values(),
)
def test_wrong_arguments(arguments: tuple[str, ...], code: int, message: str, old: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.json"
    text.write_text("[1]")
    done = envpack("diff", *(word.format(old=old, folder=tmp_path, text=text) for word in arguments))
    assert done.returncode == code, done
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
