"""Small things that mislead: advice that does not apply, options without an effect, outputs of a wrong name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envpack.build.backends import install_failure
from envpack.runtime.activation import activation_command
from support.forked import envpack as forked
from support.namespaces import namespace
from support.sample_deployments import bundle, deploy_version

ENVPACK = (sys.executable, "-m", "envpack")


def envpack(*arguments: object, code: int = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
    done = forked(*arguments, **settings)
    assert done.returncode == code, done.stderr
    return done


def test_a_rollback_is_named_only_where_there_is_one(tmp_path: Path) -> None:
    for version in ("1", "2"):
        deploy_version(tmp_path, version)
    assert "switches back to generation 2" in envpack("deploy", bundle(tmp_path, "1"), tmp_path / "x").stdout
    done = envpack("deploy", bundle(tmp_path, "2"), tmp_path / "x", "--keep", "0")
    assert "switches back" not in done.stdout and "generation 3 was removed" in done.stdout


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("/usr/bin/fish", "activate.fish"),
        ("/bin/tcsh", "activate.csh"),
        ("csh", "activate.csh"),
        ("/bin/bash", "activate"),
        ("/usr/bin/zsh", "activate"),
        ("", "activate"),
    ],
)
def test_the_command_to_activate_is_that_of_the_user_s_shell(shell: str, script: str) -> None:
    assert activation_command("/opt/an env", {"SHELL": shell}) == f"source '/opt/an env'/bin/{script}"


def test_quiet_commands_print_nothing_when_all_is_well(tmp_path: Path) -> None:
    x, y = tmp_path / "x", tmp_path / "y"
    for arguments in (
        ("deploy", bundle(tmp_path, "1"), x),
        ("deploy", bundle(tmp_path, "2"), x),
        ("rollback", x),
        ("move", x, y),
        ("remove", y),
    ):
        done = envpack(*arguments, "-q")
        assert (done.stdout, done.stderr) == ("", "")


def test_list_scan_lists_what_is_there(tmp_path: Path) -> None:
    state = {**os.environ, "ENVPACK_STATE": str(tmp_path / "state")}
    for name in ("a/x", "a/y", "b/z"):
        envpack("deploy", bundle(tmp_path, "1"), tmp_path / name, env=state)

    def listed(*roots: Path) -> list[str]:
        options = [word for root in roots for word in ("--scan", str(root))]
        found = json.loads(envpack("list", "--json", *options, env=state).stdout)["result"]["deployments"]
        return [str(Path(item["path"]).relative_to(tmp_path)) for item in found]

    assert listed() == ["a/x", "a/y", "b/z"]
    assert listed(tmp_path / "a") == ["a/x", "a/y"]
    assert listed(tmp_path / "b", tmp_path / "b", tmp_path / "a/x") == ["a/x", "b/z"]
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path / "empty") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "x.yml", "-o", "-"),
        ("release", "x.yml", "-o", "-"),
        ("lock", "x.yml", "-o", "-"),
        ("pack", "-p", ".", "-o", "-"),
        ("convert", "x.zip", "-"),
    ],
)
def test_an_output_is_no_standard_output(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "x.yml").write_text("name: x\ndependencies: []\n")
    done = envpack(*arguments, code=2, cwd=tmp_path)
    assert "nothing is written to standard output" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["x.yml"]


@pytest.mark.parametrize("page", ["<html><body>No</body></html>", "<!DOCTYPE html>\n<html>", "\n<?xml?>", "<"])
def test_a_web_page_in_the_pipe_is_named(tmp_path: Path, page: str) -> None:
    command = [*ENVPACK, "deploy", "-", str(tmp_path / "x")]
    done = subprocess.run(command, input=page + "\n" * 5, capture_output=True, text=True)
    assert (
        done.returncode == 6
        and "it begins with '<" in done.stderr
        and "web page" in done.stderr
        and "curl -f" in done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_with_its_free_space_and_the_options(tmp_path: Path) -> None:
    error = install_failure(OSError("No space left on device (os error 28)"), [tmp_path / "work/env"])
    assert error.message == "the disk is full" and "--work-dir" in error.hint and "RATTLER_CACHE_DIR" in error.hint
    assert error.details[0].endswith(f" free at {tmp_path}")


def test_a_package_cache_that_can_t_be_made_is_not_a_fault_of_the_channel() -> None:
    error = install_failure(Exception("failed to acquire global cache lock\nNot a directory (os error 20)"))
    assert "RATTLER_CACHE_DIR" in error.hint


@pytest.mark.parametrize("platform", ["win-64", "linux"])
def test_a_platform_that_is_not_supported_is_a_wrong_option(tmp_path: Path, platform: str) -> None:
    (tmp_path / "x.yml").write_text("dependencies: []\n")
    done = envpack("lock", tmp_path / "x.yml", "--platform", platform, code=2)
    assert f"platform '{platform}' is not supported" in done.stderr and "linux-aarch64" in done.stderr


def test_allow_disk_tries_it_where_too_little_is_free(tmp_path: Path) -> None:
    mount, made = tmp_path / "mount", bundle(tmp_path, "1", large=bytes(4 << 20))
    mount.mkdir()

    def deploy(*options: str) -> str:
        mounted = f'mount -t tmpfs -o size=2m none "{mount}" && exec "$@"'
        command = [*ENVPACK, "deploy", str(made), str(mount / "x"), *options]
        done = subprocess.run([*namespace(), "sh", "-c", mounted, "sh", *command], capture_output=True, text=True)
        assert done.returncode == 10
        return " ".join(done.stderr.split())

    assert "MB free, but the bundle needs" in deploy() and "--allow disk" in deploy()
    said = deploy("--allow", "disk")
    assert "No space left on device" in said and "but the bundle needs" not in said and "hint: Free some" in said


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"ENVPACK_CACHE": ""}, "the cache is switched off"),
        ({"XDG_CACHE_HOME": "cache"}, "there is no cache: XDG_CACHE_HOME is no absolute path"),
        ({"HOME": "relative"}, "there is no cache: this user has no home directory"),
    ],
)
def test_the_reason_why_there_is_no_cache_is_said(variables: dict[str, str], reason: str) -> None:
    environ = {name: value for name, value in os.environ.items() if "CACHE" not in name}
    done = envpack("cache", code=2, env={**environ, **variables})
    assert done.stderr.startswith(f"error: {reason}\n")


@pytest.mark.parametrize(("command", "code"), [("build", 3), ("inspect", 6), ("verify", 6), ("deploy", 6)])
def test_a_pointer_of_git_lfs_is_named(command: str, code: int, tmp_path: Path) -> None:
    pointer = tmp_path / "pixi.lock"
    pointer.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n")
    done = envpack(command, pointer, *([tmp_path / "x"] if command == "deploy" else []), code=code)
    assert "a pointer of Git LFS instead of the file\nhint: Run 'git lfs pull'" in done.stderr
