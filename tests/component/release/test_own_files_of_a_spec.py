"""Own files that a spec names: in the bundle, in each deployment, activated, and checked before the build."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.release.make import Recipe, build_bundle
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.errors import SpecError
from envpack.runtime.report import Reporter
from support.command_line import envpack
from support.conda_packages import Channel


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a spec with own files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    channel = Channel(tmp_path / "channel")
    channel.add(
        "tool", {"bin/tool": "#!/bin/sh\necho tool\n", "etc/conda/activate.d/tool.sh": "export ORDER=tool\n"}
    )
    channel.index()
    made = tmp_path / "project"
    for path, text in {
        "config/app.yml": "port: 8000\n",
        "scripts/b.sh": 'export ORDER="$ORDER b" FIRST="$CONDA_PREFIX/etc/app.yml"\n',
        "scripts/a.sh": 'export ORDER="$ORDER a"\n',
        "src/main.sh": "echo one\n",
        "src/.git/config": "",
        "demo.yml": f"channels: ['{channel.url}']\n"
        "dependencies: [tool]\n"
        "envpack:\n"
        "  files: {etc/app.yml: config/app.yml, share/all: config}\n"
        "  activate: [scripts/b.sh, scripts/a.sh]\n"
        "  app: src\n"
        "  test: ['grep -q 8000 $FIRST', 'test \"$(sh $CONDA_PREFIX/app/main.sh)\" != three']\n",
    }.items():
        (made / path).parent.mkdir(parents=True, exist_ok=True)
        (made / path).write_text(text)
    return made


def recipe(spec: Path) -> Recipe:
    return Recipe(spec, dict(os.environ), work=spec.parents[1] / "work")


def activated(root: Path, command: str) -> str:
    script = f". {root}/bin/activate && {command}"
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout


def test_own_files_are_in_every_deployment_and_survive_upgrades(project, tmp_path):
    root = tmp_path / "x"
    build_bundle(recipe(project / "demo.yml"), tmp_path / "1.tar.gz", Reporter())
    deploy(tmp_path / "1.tar.gz", root, reporter=Reporter(), decoders=FAST)
    assert activated(root, 'echo "$ORDER"; cat "$FIRST"') == "tool b a\nport: 8000\n"
    assert (root / "share/all/app.yml").read_text() == "port: 8000\n"
    assert not (root / "app/.git").exists()
    (project / "src/main.sh").write_text("echo two\n")
    words = ["--app", project / "src", "-o", tmp_path / "2.tar.gz", "--bundle-version", "2"]
    done = envpack("pack", "--base", tmp_path / "1.tar.gz", *words)
    assert done.code == 0, done.err
    deploy(tmp_path / "2.tar.gz", root, reporter=Reporter(), decoders=FAST)
    assert activated(root, 'echo "$ORDER"; sh "$CONDA_PREFIX/app/main.sh"') == "tool b a\ntwo\n"


def test_a_lock_keeps_what_the_spec_says_of_own_files(project, tmp_path):
    done = envpack("lock", project / "demo.yml", "-o", project / "demo.lock")
    assert done.code == 0, done.err
    build_bundle(recipe(project / "demo.lock"), tmp_path / "b.tar.gz", Reporter())


@pytest.mark.parametrize(
    "line, message",
    [
        ("app: none", "none is not a directory"),
        ("app: demo.yml", "demo.yml is not a directory"),
        ("app: {bin/activate: src}", "bin/activate: this path is used by"),
        ("files: {etc/x: missing.yml}", "missing.yml does not exist"),
        ("activate: [scripts/none.sh]", "none.sh is not a file"),
    ],
)
def test_a_mistake_is_reported_before_anything_is_built(project, tmp_path, line, message):
    (project / "wrong.yml").write_text(f"dependencies: [no-such-package]\nenvpack:\n  {line}\n")
    with pytest.raises(SpecError, match=message):
        build_bundle(recipe(project / "wrong.yml"), tmp_path / "b.tar.gz", Reporter())
