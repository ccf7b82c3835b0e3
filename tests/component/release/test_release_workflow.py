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

WORKFLOWS_HERE = sorted(path.name for path in WORKFLOWS.glob("*.yml"))

GH = """\
#!/usr/bin/env bash
# Releases as folders: $RELEASES/<tag>/<asset>; a draft has a file .draft, which only a token that writes sees
set -euo pipefail
[[ $1 == release ]] || exit 9
action=$2 tag=$3; shift 3
release=$RELEASES/$tag
[[ $MAY_WRITE == true || $action == view || $action == download ]] || exit 7
[[ $action == create || -d $release ]] || exit 1
[[ $action == create || $MAY_WRITE == true || ! -e $release/.draft ]] || exit 1
case $action in
    view)
        case "$*" in
            "") ;;
            *isDraft*) [[ -e $release/.draft ]] && echo true || echo false ;;
            *) (cd "$release"; ls | grep '\\.sha256$' || true) ;;
        esac ;;
    create) mkdir "$release"; [[ $1 == --draft ]]; touch "$release/.draft" ;;
    edit) [[ $* == --draft=false ]]; rm -f "$release/.draft" ;;
    download) [[ $1 == --pattern && $3 == --dir ]]; cp "$release"/$2 "$4" ;;
    upload)
        [[ $1 == --clobber ]]; shift
        for file in "$@"; do
            [[ $file != *${BROKEN:-/} ]] || { head -c 3 "$file" > "$release/$(basename "$file")"; exit 1; }
            cp "$file" "$release"
        done ;;
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
    for folder in ("releases", "artifacts"):
        (tmp_path / folder).mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return {
        **inherited,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "RELEASES": str(tmp_path / "releases"),
        "ARTIFACTS": str(tmp_path / "artifacts"),
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_SHA": "0" * 40,
        "ENVPACK_VENV": sys.prefix,
        "ENVPACK_WORK": str(tmp_path / "work"),
        "CHANNEL": channel_url,
        "SOURCE_DATE_EPOCH": "1766102400",
    }


def expand(text: str, values: Mapping[str, str]) -> str:
    """GitHub's ``${{ ... }}``."""
    return re.sub(r"\$\{\{\s*(.+?)\s*\}\}", lambda match: values[match[1]], text)


def run_job(
    name: str, place: Path, runner: Mapping[str, str], *, tag: str = "", complete: bool = True, fails: str = ""
) -> str:
    """Run the steps of a job of the release for the first value of its matrix, as GitHub does.

    Args:
        name: The name of the job.
        place: The folder it runs in.
        runner: The environment of the runner.
        tag: The release that the job before has chosen.
        complete: Whether no other job has failed.
        fails: The name of the step that fails, "" for none.

    Returns:
        The outputs that the steps have written.
    """
    document = workflow("release.yml")
    assert document["defaults"]["run"]["shell"] == "bash"
    job = document["jobs"][name]
    temp = Path(runner["RUNNER_TEMP"])
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    matrix = job.get("strategy", {}).get("matrix", {})
    values = {f"matrix.{key}": str(choices[0]) for key, choices in matrix.items()}
    values |= {"github.token": "token", "github.repository": "owner/name", "runner.temp": str(temp)}
    values |= {"needs.choose.outputs.tag": tag, "strategy.job-index": "0"}
    values["!contains(needs.*.result, 'failure')"] = str(complete).lower()
    permissions = {**document["permissions"], **job.get("permissions", {})}
    environment = {**runner, "GITHUB_OUTPUT": str(temp / "output")}
    environment["MAY_WRITE"] = str(permissions["contents"] == "write").lower()
    for step in job["steps"]:
        action, options = step.get("uses", ""), step.get("with", {})
        if action.startswith("actions/upload-artifact@"):
            source = place / expand(options["path"], values)
            target = Path(runner["ARTIFACTS"]) / expand(options["name"], values)
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
        elif action.startswith("actions/download-artifact@"):
            shutil.copytree(runner["ARTIFACTS"], place / options["path"])
        if "run" not in step:
            continue
        own = {**job.get("env", {}), **step.get("env", {})}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", expand(step["run"], values)],
            cwd=place,
            env={**environment, **{key: expand(str(value), values) for key, value in own.items()}},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if fails == step["name"]:
            assert done.returncode != 0
            return done.stdout
        assert done.returncode == 0, f"{step.get('name')}:\n{done.stdout}\n{done.stderr}"
    return (temp / "output").read_text() if (temp / "output").exists() else ""


def choose(place: Path, runner: Mapping[str, str]) -> str:
    """Run the job that chooses the release, and return its tag."""
    return run_job("choose", place, runner).removeprefix("tag=").rstrip("\n")


def publish(
    place: Path, runner: Mapping[str, str], tag: str, *, broken: str = "", complete: bool = True, fails: str = ""
) -> str:
    """Run the job that publishes what is in $ARTIFACTS, in an empty folder."""
    shutil.rmtree(place / "publish", ignore_errors=True)
    (place / "publish").mkdir()
    run = {**runner, "BROKEN": broken or "/"}
    return run_job("publish", place / "publish", run, tag=tag, complete=complete, fails=fails)


def built(runner: Mapping[str, str], artifact: str, name: str, content: str) -> None:
    """Put the files of a bundle where the job that builds it puts them."""
    folder = Path(runner["ARTIFACTS"]) / artifact
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / f"{name}.tar.gz").write_text(f"{content}, the bundle")
    (folder / f"{name}.manifest.json").write_text(f"{content}, the manifest")
    (folder / f"{name}.tar.gz.sha256").write_text(f"{content}, the checksum")


def released(runner: Mapping[str, str], tag: str) -> dict[str, bytes]:
    """Return the files of a release, a mark for drafts among them."""
    return {path.name: path.read_bytes() for path in (Path(runner["RELEASES"]) / tag).iterdir()}


def test_it_runs_on_tags_on_main_and_every_night() -> None:
    on = workflow("release.yml")[True]  # YAML 1.1 reads the key `on` as a truth value
    assert on["push"]["tags"] and on["push"]["branches"] == ["main"] and on["schedule"]


def test_it_publishes_dated_files_and_never_touches_published_ones(checkout: Path, runner: dict[str, str]) -> None:
    main = {**runner, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}
    tag = choose(checkout, main)
    assert re.fullmatch(r"nightly-\d{4}-\d\d", tag)
    run_job("build", checkout, main, tag=tag)
    publish(checkout.parent, main, tag)
    first = released(main, tag)
    stem = "demo-1.0-20251219-linux-64"
    ends = (".cdx.json", ".manifest.json", ".tar.gz", ".tar.gz.sha256")
    assert sorted(first) == [f"{stem}{end}" for end in ends]
    release = Path(main["RELEASES"]) / tag
    subprocess.run(["sha256sum", "--check", "--strict", f"{stem}.tar.gz.sha256"], cwd=release, check=True)

    shutil.rmtree(checkout / "dist")  # the next run of the day has a fresh checkout
    run_job("build", checkout, main, tag=tag)
    publish(checkout.parent, main, tag)
    after = released(main, tag)
    assert {name: after[name] for name in first} == first
    assert set(after) - set(first) == {name.replace("20251219", "20251219.1") for name in first}


@pytest.mark.parametrize("broken", [".tar.gz", ".manifest.json", ".sha256"])
@pytest.mark.parametrize("before", [False, True], ids=["first of the month", "later"])
def test_a_broken_upload_is_completed_by_the_next_run(
    tmp_path: Path, runner: dict[str, str], broken: str, before: bool
) -> None:
    main = {**runner, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}
    if before:
        built(main, "release-0", "demo-1", "published")
        publish(tmp_path, main, "nightly")
    built(main, "release-0", "demo-2", "broken")
    publish(tmp_path, main, "nightly", broken=broken, fails="Upload")
    assert (".draft" in released(main, "nightly")) is not before

    # the names of uploads without .sha256 are free, so the next run may take the same one
    name = "demo-3" if before and broken == ".sha256" else "demo-2"
    built(main, "release-0", name, "new")
    publish(tmp_path, main, "nightly")
    files = released(main, "nightly")
    assert files[f"{name}.tar.gz"] == b"new, the bundle" and files[f"{name}.tar.gz.sha256"] == b"new, the checksum"
    assert ".draft" not in files and all(
        content.startswith(b"published") for n, content in files.items() if "-1" in n
    )


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(tmp_path: Path, runner: dict[str, str]) -> None:
    main = {**runner, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main"}
    built(main, "release-0", "demo", "first")
    publish(tmp_path, main, "nightly")
    publish(tmp_path, main, "nightly")  # the same run again
    built(main, "release-0", "demo", "second")
    publish(tmp_path, main, "nightly", fails="Upload")
    assert all(content.startswith(b"first") for content in released(main, "nightly").values())


def test_a_tag_has_a_release_of_its_own_that_is_public_when_it_is_complete(
    tmp_path: Path, runner: dict[str, str]
) -> None:
    tagged = {**runner, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.0"}
    assert choose(tmp_path, tagged) == "v1.0"
    built(tagged, "release-0", "demo", "one")
    said = publish(tmp_path, tagged, "v1.0", complete=False, fails="Publish")
    assert "run the failed jobs again" in said and ".draft" in released(tagged, "v1.0")
    built(tagged, "release-1", "other", "two")
    publish(tmp_path, tagged, "v1.0")
    assert sorted(released(tagged, "v1.0")) == sorted(
        f"{name}{suffix}"
        for name in ("demo", "other")
        for suffix in (".manifest.json", ".tar.gz", ".tar.gz.sha256")
    )


def test_envpack_s_own_packages_are_made_for_a_tag(runner: dict[str, str], tmp_path: Path) -> None:
    """The wheel and the source archive, with checksums that are right; of a copy of what is checked in."""
    if subprocess.run(["git", "clone", "-q", REPOSITORY, tmp_path / "clone"], capture_output=True).returncode != 0:
        pytest.skip("not a git checkout")
    run_job("package", tmp_path / "clone", {**runner, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.0"})
    made = Path(runner["ARTIFACTS"]) / "release-package"
    assert sorted(path.suffix for path in made.iterdir()) == [".gz", ".sha256", ".whl"]
    (sums,) = made.glob("*.sha256")
    subprocess.run(["sha256sum", "--check", "--strict", sums.name], cwd=made, check=True, capture_output=True)
    assert workflow("release.yml")["jobs"]["package"]["if"] == "github.ref_type == 'tag'"


@pytest.mark.parametrize("name", WORKFLOWS_HERE)
def test_actions_are_named_by_commit_with_their_version(name: str) -> None:
    lines = [line for line in (WORKFLOWS / name).read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.search(r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


@pytest.mark.parametrize("name", WORKFLOWS_HERE)
def test_what_runs_our_code_can_t_write_and_what_writes_runs_none(name: str) -> None:
    document = workflow(name)
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        permissions = {**document["permissions"], **job.get("permissions", {})}
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        commands = "\n".join(step.get("run", "") for step in job["steps"])
        if checkouts or re.search(r"\b(make|envpack|pip|python3?|\.ci/run)\b", commands):
            assert set(permissions.values()) == {"read"}, job
        for step in checkouts:
            assert step["with"]["persist-credentials"] is False


def test_what_is_published_is_attested_before() -> None:
    job = workflow("release.yml")["jobs"]["publish"]
    assert job["permissions"] == {"contents": "write", "id-token": "write", "attestations": "write"}
    steps = [step.get("uses", step.get("name", "")).partition("@")[0] for step in job["steps"]]
    assert steps[:2] == ["actions/download-artifact", "actions/attest-build-provenance"]
    assert job["steps"][1]["with"]["subject-path"] == "artifacts/*/*"


def test_a_tag_does_not_wait_for_the_nightly_run() -> None:
    concurrency = workflow("release.yml")["concurrency"]
    assert concurrency["group"] == "release-${{ github.ref_type == 'tag' && github.ref_name || 'nightly' }}"
    assert concurrency["cancel-in-progress"] is False


def test_what_ci_runs_is_what_a_person_runs() -> None:
    commands = [step["run"] for step in workflow("ci.yml")["jobs"]["test"]["steps"] if "run" in step]
    assert commands == [".ci/run", "make demo"]
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
