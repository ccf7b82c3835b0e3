"""The release workflow's own commands, run as GitHub runs them, with `gh` put in place by a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[3]
WORKFLOWS = REPOSITORY / ".github" / "workflows"

GH = """\
#!/usr/bin/env bash
# Releases as folders: $RELEASES/<tag>/<asset>
set -euo pipefail
[[ $1 == release ]] || exit 9
action=$2 tag=$3; shift 3
case $action in
    view) [[ -d $RELEASES/$tag ]]; [[ $# == 0 ]] || (cd "$RELEASES/$tag"; ls | grep '\\.sha256$' || true) ;;
    create) mkdir "$RELEASES/$tag" ;;
    download) [[ $1 == --pattern && $3 == --dir ]]; cp "$RELEASES/$tag"/$2 "$4" ;;
    upload) for file in "$@"; do cp --no-clobber "$file" "$RELEASES/$tag"; done ;;
    *) exit 9 ;;
esac
"""


def workflow(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return document


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is checked in, as a runner has it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "envspecs", "scripts", "Makefile", "pyproject.toml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"


@pytest.fixture
def runner(tmp_path: Path, channel_url: str) -> dict[str, str]:
    """The environment of a runner. The tools are those that run this test, the channel is the tests'."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    for folder in ("releases", "temp"):
        (tmp_path / folder).mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return {
        **inherited,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "RELEASES": str(tmp_path / "releases"),
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_ENV": str(tmp_path / "github-env"),
        "GITHUB_SHA": "0" * 40,
        "ENVPACK_VENV": sys.prefix,
        "ENVPACK_WORK": str(tmp_path / "work"),
        "CHANNEL": channel_url,
        "SOURCE_DATE_EPOCH": "1766102400",
    }


def expand(text: str, values: Mapping[str, str]) -> str:
    """GitHub's ``${{ ... }}``."""
    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda match: values[match[1]], text)


def run_job(checkout: Path, environment: dict[str, str], *, only: str = "") -> None:
    """Runs the ``run:`` steps of the release for the first value of its matrix, as GitHub's bash does."""
    document = workflow("release.yml")
    assert document["defaults"]["run"]["shell"] == "bash"
    job = document["jobs"]["release"]
    values = {f"matrix.{key}": str(choices[0]) for key, choices in job["strategy"]["matrix"].items()}
    values |= {"github.token": "token", "github.repository": "owner/name"}
    environment |= {name: expand(str(value), values) for name, value in job.get("env", {}).items()}
    steps = [step for step in job["steps"] if "run" in step and only in step["name"]]
    assert steps
    for step in steps:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", expand(step["run"], values)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{step.get('name')}:\n{done.stdout}\n{done.stderr}"
        if Path(environment["GITHUB_ENV"]).exists():
            lines = Path(environment["GITHUB_ENV"]).read_text().splitlines()
            environment |= dict(line.split("=", 1) for line in lines)


def test_it_runs_on_tags_on_main_and_every_night() -> None:
    on = workflow("release.yml")[True]  # YAML 1.1 reads the key `on` as a truth value
    assert on["push"]["tags"] and on["push"]["branches"] == ["main"] and on["schedule"]


def test_it_publishes_dated_files_and_never_touches_published_ones(checkout: Path, runner: dict[str, str]) -> None:
    main = {**runner, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}
    run_job(checkout, main)
    (release,) = Path(runner["RELEASES"]).iterdir()
    assert re.fullmatch(r"nightly-\d{4}-\d\d", release.name)
    first = {path.name: path.read_bytes() for path in release.iterdir()}
    stem = "demo-1.0-20251219-linux-64"
    assert sorted(first) == [f"{stem}.manifest.json", f"{stem}.tar.gz", f"{stem}.tar.gz.sha256"]
    subprocess.run(["sha256sum", "--check", "--strict", f"{stem}.tar.gz.sha256"], cwd=release, check=True)

    shutil.rmtree(checkout / "dist")  # the next run of the day has a fresh checkout
    run_job(checkout, main)
    after = {path.name: path.read_bytes() for path in release.iterdir()}
    assert {name: after[name] for name in first} == first
    assert set(after) - set(first) == {name.replace("20251219", "20251219.1") for name in first}


def test_a_tag_has_a_release_of_its_own(checkout: Path, runner: dict[str, str]) -> None:
    tag = {**runner, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.0"}
    run_job(checkout, tag, only="Choose the release")
    run_job(checkout, tag, only="Choose the release")  # another spec of the same tag
    assert [path.name for path in Path(runner["RELEASES"]).iterdir()] == ["v1.0"]
    assert Path(runner["GITHUB_ENV"]).read_text() == "TAG=v1.0\nTAG=v1.0\n"


def test_what_ci_runs_is_what_a_person_runs() -> None:
    commands = [step["run"] for step in workflow("ci.yml")["jobs"]["test"]["steps"] if "run" in step]
    assert commands == [".ci/run", "make demo"]
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
