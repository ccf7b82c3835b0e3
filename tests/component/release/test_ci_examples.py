"""The examples for CI systems: valid files, whose commands build and publish a bundle."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from envpack.cli.app import COMMANDS
from envpack.publish.names import parse_bundle_name
from envpack.publish.targets import PUBLISHERS
from support.conda_packages import Channel
from support.forked import envpack

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = REPOSITORY / "examples" / "ci"
NAMES = ("github.yml", "gitlab-ci.yml", "Jenkinsfile")
SPEC = "name: demo\nchannels: [{channel}]\ndependencies: [tool]\nenvpack: {{version: '1.0'}}\n"
SCRIPTS = Path(sysconfig.get_path("scripts"))

DECLARATIVE = {
    *("pipeline", "agent", "label", "triggers", "cron", "options", "disableConcurrentBuilds", "timeout"),
    *(
        "environment",
        "credentials",
        "stages",
        "stage",
        "steps",
        "sh",
        "when",
        "anyOf",
        "triggeredBy",
        "buildingTag",
    ),
}
"""The words of declarative pipelines (https://www.jenkins.io/doc/book/pipeline/syntax/) that the example uses."""


def text(name: str) -> str:
    return (EXAMPLES / name).read_text(encoding="utf-8")


def job(name: str) -> Any:
    document = yaml.safe_load(text(name))
    (found,) = document["jobs"].values() if "jobs" in document else document.values()
    return found


def commands(name: str) -> list[str]:
    """Return the shell commands of an example, in order."""
    if name == "Jenkinsfile":
        return re.findall(r"\bsh '([^'\n]*)'", text(name))
    if name == "gitlab-ci.yml":
        return list(job(name)["script"])
    return [step["run"] for step in job(name)["steps"] if "run" in step]


def variables(name: str) -> dict[str, str]:
    """Return the variables that an example sets, as it writes them."""
    if name == "Jenkinsfile":
        return {key: value for key, _, value in re.findall(r"""^ +([A-Z_]+) = (["'])(.*)\2$""", text(name), re.M)}
    return {key: str(value) for key, value in job(name).get("variables", job(name).get("env", {})).items()}


def calls(name: str) -> Iterator[list[str]]:
    """Yield the words of each call of envpack."""
    for command in commands(name):
        words = shlex.split(command)
        if Path(words[0]).name == "envpack":
            yield words[1:]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_exists(name: str) -> None:
    found = list(calls(name))
    assert [words[0] for words in found] == ["release"]
    for command, *words in found:
        assert command in COMMANDS
        shown = envpack(command, "--help").stdout
        assert {word for word in words if word.startswith("-")} <= set(re.findall(r"(?<!\S)--[a-z-]+", shown))


@pytest.mark.parametrize("name", NAMES)
def test_the_package_that_is_installed_is_this_one(name: str) -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (package,) = [shlex.split(line)[-1] for line in commands(name) if "pip install" in line]
    assert f'name = "{package.partition("[")[0]}"' in project
    extra = package.partition("[")[2].rstrip("]")
    if extra not in project:
        pytest.skip(f"this version has no extra {extra}")


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_of_a_known_kind(name: str) -> None:
    scheme = variables(name)["TARGET"].partition(":")[0]
    if scheme not in PUBLISHERS:
        pytest.skip(f"this version does not publish to {scheme}:")
    assert scheme in ("github", "gitlab", "s3")


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_build_publish_and_keep_what_the_next_run_needs(name: str, tmp_path: Path) -> None:
    """In the shell of the CI system, except the installation: envpack is the one that runs this test."""
    if not (SCRIPTS / "envpack").exists():
        pytest.skip("envpack is not installed with its command")
    place = tmp_path / "checkout"
    (place / ".venv").mkdir(parents=True)
    (place / ".venv/bin").symlink_to(SCRIPTS)
    channel = Channel(tmp_path / "channel")
    channel.add("tool", {"bin/tool": "#!/bin/sh\necho tool\n"})
    channel.index()
    (place / "environment.yml").write_text(SPEC.format(channel=channel.url))
    stated = variables(name)
    caches = {key: str(tmp_path / key) for key in stated if key.endswith(("CACHE", "CACHE_DIR"))}
    assert set(caches) == {"RATTLER_CACHE_DIR", "UV_CACHE_DIR", "ENVPACK_CACHE"}
    environment = {
        **os.environ,
        **{key: value for key, value in stated.items() if key == "ENVPACK_CACHE_LIMIT"},
        **caches,
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "TARGET": str(tmp_path / "published"),
        "ENVPACK_WORK": str(tmp_path / "work"),
        "SOURCE_DATE_EPOCH": "1766102400",
    }
    shell = ["bash", "-e", "-c"] if name == "github.yml" else ["sh", "-e", "-c"]
    for _ in range(2 if name == NAMES[0] else 1):
        for command in commands(name):
            if "pip install" in command or "-m venv" in command:
                continue
            done = subprocess.run([*shell, command], cwd=place, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    bundles = [path.name for path in (tmp_path / "published").glob("*.tar.gz")]
    numbers = {parsed.ordinal for bundle in bundles if (parsed := parse_bundle_name(bundle)) is not None}
    assert numbers == ({0, 1} if name == NAMES[0] else {0}), "the second build of a day has a name of its own"
    assert all(any(Path(caches[key]).iterdir()) for key in ("RATTLER_CACHE_DIR", "ENVPACK_CACHE"))


@pytest.mark.parametrize("name", NAMES)
def test_shellcheck_finds_nothing(name: str) -> None:
    program = shutil.which("shellcheck", path=f"{SCRIPTS}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("needs shellcheck")
    script = "\n".join(["#!/bin/sh", *commands(name), ""])
    done = subprocess.run([program, "-"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_gitlab_s_file_has_the_form_that_gitlab_states() -> None:
    """With the schema that GitLab publishes, which check-jsonschema has in it."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci"]
    done = subprocess.run([*command, EXAMPLES / "gitlab-ci.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = job("gitlab-ci.yml")
    caches = [value for key, value in variables("gitlab-ci.yml").items() if key.endswith(("CACHE", "CACHE_DIR"))]
    assert found["cache"]["paths"] == [".cache/"]
    assert all(value.startswith("$CI_PROJECT_DIR/.cache/") for value in caches)


def test_github_s_job_can_write_releases_and_nothing_else() -> None:
    document = yaml.safe_load(text("github.yml"))
    assert document["permissions"] == {"contents": "read"}
    assert job("github.yml")["permissions"] == {"contents": "write"}
    used = [step["uses"] for step in job("github.yml")["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used)
    assert not any("GITHUB_TOKEN" in step.get("env", {}) for step in job("github.yml")["steps"][:-1])


def test_jenkins_file_is_a_declarative_pipeline() -> None:
    """As far as that can be seen without Jenkins: known words, and brackets that fit."""
    plain = re.sub(r"""'[^'\n]*'|"[^"\n]*"|//[^\n]*""", "''", text("Jenkinsfile"))
    assert set(re.findall(r"\b([a-z]\w+)\b(?!:)", plain)) <= DECLARATIVE
    open_ones: list[str] = []
    for character in re.sub(r"[^(){}]", "", plain):
        if character in "({":
            open_ones.append(character)
        else:
            assert open_ones.pop() + character in ("()", "{}")
    assert not open_ones and plain.lstrip("'\n ").startswith("pipeline {")
    assert "'" not in plain.replace("''", "") and '"' not in plain
