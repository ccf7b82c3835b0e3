"""The release workflow's own commands, run as GitHub runs them, with `gh` put in place by a folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from cut_bundle import cut
from support.command_line import envpack
from support.conda_packages import Channel

REPOSITORY = Path(__file__).parents[3]
WORKFLOWS = REPOSITORY / ".github" / "workflows"

TAG = "github.ref_type == 'tag' && github.ref_name || format('build-{0}', github.run_number)"
WORKFLOWS_HERE = sorted(path.name for path in WORKFLOWS.glob("*.yml"))

GH = """\
#!/usr/bin/env bash
# Releases as folders: $RELEASES/<tag>/<asset>; a draft has a file .draft, which only a token that writes sees.
# What is published can't be changed, as in repositories with immutable releases.
set -euo pipefail
if [[ $1 == api ]]; then
    [[ $2 == "repos/owner/name/releases?per_page=100" && $4 == *'.[].assets[].name'*'.sha256'* ]] || exit 9
    for sum in "$HERE"/*/*.sha256; do
        [[ ! -e $sum || -e ${sum%/*}/.draft ]] || basename "$sum"
    done
    exit
fi
[[ $1 == release ]] || exit 9
action=$2 tag=$3; shift 3
release=$HERE/$tag
[[ $MAY_WRITE == true ]] || exit 7
[[ $action == create || -d $release ]] || exit 1
[[ $action == view || $action == download || $action == create || -e $release/.draft ]] || exit 8
case $action in
    view) [[ -e $release/.draft ]] && echo true || echo false ;;
    create) mkdir "$release"; [[ $1 == --draft ]]; touch "$release/.draft"; echo "$@" > "$HERE/../created" ;;
    delete) [[ $* == --yes ]]; rm -r "$release" ;;
    edit) [[ $* == --draft=false ]]; rm "$release/.draft" ;;
    download) [[ $1 == --pattern && $3 == --dir ]]; mkdir -p "$4"; cp "$release"/$2 "$4" ;;
    upload)
        for file in "$@"; do
            [[ $file != *${BROKEN:-/} ]] || { head -c 3 "$file" > "$release/$(basename "$file")"; exit 1; }
            [[ ! -e $release/$(basename "$file") ]] || exit 8
            cp "$file" "$release"
        done ;;
    *) exit 9 ;;
esac
"""
"""A stand-in for GitHub's program. It is told of releases by HERE, the folder with one folder for each."""


SMALL = "name: demo\ndependencies: [tool]\nenvpack: {version: '1.0'}\n"
"""A spec that is built in seconds."""


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
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a runner. The tools are those that run this test, the channel has one small package."""
    channel = Channel(tmp_path / "channel")
    channel.add("tool", {"bin/tool": "#!/bin/sh\necho tool\n"})
    channel.index()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    for folder in ("releases", "artifacts"):
        (tmp_path / folder).mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return {
        **inherited,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HERE": str(tmp_path / "releases"),
        "ARTIFACTS": str(tmp_path / "artifacts"),
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_SHA": "0" * 40,
        "ENVPACK_VENV": sys.prefix,
        "ENVPACK_WORK": str(tmp_path / "work"),
        "CHANNEL": channel.url,
        "SOURCE_DATE_EPOCH": "1766102400",
    }


def expand(text: str, values: Mapping[str, str]) -> str:
    """GitHub's ``${{ ... }}``."""
    return re.sub(r"\$\{\{\s*(.+?)\s*\}\}", lambda match: values[match[1]], text)


def run_job(
    name: str,
    place: Path,
    runner: Mapping[str, str],
    *,
    complete: bool = True,
    fails: str = "",
    changed: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Run the steps of a job of the release for the first value of its matrix, as GitHub does.

    Args:
        name: The name of the job.
        place: The folder it runs in.
        runner: The environment of the runner.
        complete: Whether no other job has failed.
        fails: The name of the step that fails, "" for none.
        changed: Variables that have other values than in the workflow.

    Returns:
        What the steps have printed.
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
    values |= {"strategy.job-index": "0", TAG: tag_of(runner)}
    values["!contains(needs.*.result, 'failure')"] = str(complete).lower()
    permissions = {**document["permissions"], **job.get("permissions", {})}
    environment = {**runner, "MAY_WRITE": str(permissions["contents"] == "write").lower()}
    printed = ""
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
            env={**environment, **{key: expand(str(value), values) for key, value in own.items()}, **changed},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        printed += done.stdout
        if fails == step["name"]:
            assert done.returncode != 0
            return printed
        assert done.returncode == 0, f"{step.get('name')}:\n{done.stdout}\n{done.stderr}"
    assert not fails
    return printed


def tag_of(runner: Mapping[str, str]) -> str:
    """Return the value of the expression TAG."""
    return runner["GITHUB_REF_NAME"] if runner["GITHUB_REF_TYPE"] == "tag" else f"build-{runner['RUN_NUMBER']}"


def publish(
    place: Path, runner: Mapping[str, str], *, broken: str = "", complete: bool = True, fails: str = ""
) -> str:
    """Run the job that publishes what is in $ARTIFACTS, in an empty folder."""
    shutil.rmtree(place / "publish", ignore_errors=True)
    (place / "publish").mkdir()
    run = {**runner, "BROKEN": broken or "/"}
    return run_job("publish", place / "publish", run, complete=complete, fails=fails)


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
    return {path.name: path.read_bytes() for path in (Path(runner["HERE"]) / tag).iterdir()}


def test_it_runs_on_tags_on_main_and_every_night() -> None:
    on = workflow("release.yml")[True]  # YAML 1.1 reads the key `on` as a truth value
    assert on["push"]["tags"] and on["push"]["branches"] == ["main"] and on["schedule"]


def on_main(runner: Mapping[str, str], number: int = 1) -> dict[str, str]:
    return {**runner, "GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main", "RUN_NUMBER": str(number)}


def test_each_run_has_a_release_and_names_of_its_own(
    checkout: Path, runner: dict[str, str], tmp_path: Path
) -> None:
    (spec,) = workflow("release.yml")["jobs"]["build"]["strategy"]["matrix"]["spec"]
    assert (checkout / spec).is_file()
    (checkout / spec).write_text(SMALL)
    first = on_main(runner, 1)
    run_job("build", checkout, first)
    publish(checkout.parent, first)
    stem = "demo-1.0-20251219-linux-64"
    ends = (".cdx.json", ".manifest.json", ".tar.gz", ".tar.gz.sha256")
    assert sorted(released(first, "build-1")) == [f"{stem}{end}" for end in ends]
    release = Path(first["HERE"]) / "build-1"
    subprocess.run(["sha256sum", "--check", "--strict", f"{stem}.tar.gz.sha256"], cwd=release, check=True)
    created = (release.parents[1] / "created").read_text()
    assert f"--target {'0' * 40} " in created, "the tag leads to what was built, not to what is newest by then"

    # the second run of the day, in a fresh checkout, with a bundle that is larger than an asset
    shutil.rmtree(checkout / "dist")
    second = on_main(runner, 2)
    run_job("build", checkout, second, changed={"ASSET_SIZE": "20000"})
    publish(checkout.parent, second)
    stem = stem.replace("20251219", "20251219.1")
    parts = [name for name in sorted(released(second, "build-2")) if re.search(r"\.\d{3}$", name)]
    assert parts == [f"{stem}.tar.gz.{number + 1:03d}" for number in range(len(parts))] and len(parts) > 1
    listed = f"{stem}.tar.gz.parts.json"
    rest = {f"{stem}{end}" for end in ends if end != ".tar.gz"}
    assert set(released(second, "build-2")) == {*parts, *rest, listed}
    release = Path(second["HERE"]) / "build-2"
    assert envpack("inspect", release / listed).code == 0
    (tmp_path / f"{stem}.tar.gz").write_bytes(b"".join((release / part).read_bytes() for part in parts))
    subprocess.run(["sha256sum", "--check", release / f"{stem}.tar.gz.sha256"], cwd=tmp_path, check=True)


def test_a_bundle_that_is_small_enough_stays_whole(tmp_path: Path) -> None:
    bundle = tmp_path / "demo.tar.gz"
    bundle.write_bytes(b"12345")
    assert cut(bundle, 5) == [bundle]
    assert bundle.read_bytes() == b"12345"


@pytest.mark.parametrize("broken", [".tar.gz", ".manifest.json", ".sha256"])
def test_an_interrupted_upload_is_done_again_from_the_start(
    tmp_path: Path, runner: dict[str, str], broken: str
) -> None:
    main = on_main(runner)
    built(main, "release-0", "demo", "one")
    publish(tmp_path, main, broken=broken, fails="Publish")
    assert ".draft" in released(main, "build-1")
    publish(tmp_path, main)
    files = released(main, "build-1")
    assert len(files) == 3 and all(content.startswith(b"one") for content in files.values())


def test_what_is_published_is_left_as_it_is(tmp_path: Path, runner: dict[str, str]) -> None:
    main = on_main(runner)
    built(main, "release-0", "demo", "first")
    publish(tmp_path, main)
    assert "is published already" in publish(tmp_path, main)  # the job again, whose end was not seen
    built(main, "release-1", "other", "late")
    assert "start a new run" in publish(tmp_path, main, fails="Publish")
    built(main, "release-1", "demo", "second")
    assert "start a new run" in publish(tmp_path, main, fails="Publish")
    assert all(content.startswith(b"first") for content in released(main, "build-1").values())


def test_a_release_has_a_thousand_files_at_most(tmp_path: Path, runner: dict[str, str]) -> None:
    main = on_main(runner)
    for number in range(334):
        built(main, f"release-{number}", f"demo-{number}", "one")
    assert "these are 1002 files" in publish(tmp_path, main, fails="Check what is there")
    assert not any(Path(main["HERE"]).iterdir())


def test_a_tag_has_a_release_of_its_own_that_is_public_when_it_is_complete(
    tmp_path: Path, runner: dict[str, str]
) -> None:
    tagged = {**runner, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.0"}
    built(tagged, "release-0", "demo", "one")
    said = publish(tmp_path, tagged, complete=False, fails="Check what is there")
    assert "run the failed jobs again" in said and not any(Path(tagged["HERE"]).iterdir())
    built(tagged, "release-1", "other", "two")
    publish(tmp_path, tagged)
    assert sorted(released(tagged, "v1.0")) == sorted(
        f"{name}{suffix}"
        for name in ("demo", "other")
        for suffix in (".manifest.json", ".tar.gz", ".tar.gz.sha256")
    )
    assert "--verify-tag" in (tmp_path / "created").read_text()


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
    assert steps == [
        "actions/download-artifact",
        "Check what is there",
        "actions/attest-build-provenance",
        "Publish",
    ]
    assert job["steps"][2]["with"]["subject-path"] == "artifacts/*/*"


def test_a_tag_does_not_wait_for_the_nightly_run() -> None:
    concurrency = workflow("release.yml")["concurrency"]
    assert concurrency["group"] == "release-${{ github.ref_type == 'tag' && github.ref_name || 'build' }}"
    assert concurrency["cancel-in-progress"] is False


def test_what_ci_runs_is_what_a_person_runs() -> None:
    commands = [step["run"] for step in workflow("ci.yml")["jobs"]["test"]["steps"] if "run" in step]
    assert commands == [".ci/run", "make demo"]
    assert "make test" in (REPOSITORY / ".ci" / "run").read_text()
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)
