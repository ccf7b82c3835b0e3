"""Activation on hosts that can and can't run the environment: real deployments, real shells."""

from __future__ import annotations

import fcntl
import os
import pty
import shlex
import shutil
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rattler.shell import ActivationVariables, activate
from rattler.shell import Shell as RattlerShell

from envpack.runtime.commands.check import parse_policy
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.format.needs import DetectedNeeds, Evidence
from envpack.runtime.report import Reporter
from support.fake_hosts import CU126, RTX3090, Host, build_stubs, bundle_of
from support.shells import BARE, POSIX, SHELLS, Session, Shell, everything_back, few, installed

NEEDS_GLIBC = {"needs": DetectedNeeds(glibc=Evidence("2.17", "bin/python"))}
STATUS = {"": "echo $?", ".fish": "echo $status", ".csh": "echo $status"}


def deployed(folder: Path, content: Mapping[str, Any], **options: Any) -> Path:
    """A deployment of a bundle that says ``content`` of itself, made without a check unless ``options`` say so."""
    bundle_of(folder / "b.tar.gz", content, complete=True)
    asked = DeployOptions(policy=parse_policy(**{"check": False, **options}))
    return Path(deploy(folder / "b.tar.gz", folder / "env", asked, reporter=Reporter()).destination)


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {**BARE, "HOME": str(folder), **more}


def forget_how(prefix: Path) -> None:
    """From now on the check can't be made again, only remembered."""
    (prefix / ".envpack/runtime.pyz").write_text("this is no runtime")


CANT_SAY = "could not check"


def test_a_host_that_does_not_do_is_refused(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9", "kernel": "99"}})
    lines = ["DUMP", shell.source(prefix), STATUS[shell.suffix], "DUMP", "deactivate"]
    outcome = session.run(shell, lines, environ(tmp_path))
    assert outcome.environments[0] == outcome.environments[1]
    assert outcome.out == "1\n"
    said = outcome.err[: outcome.err.index("skips this check.")].splitlines()
    assert said[0].startswith(f"envpack: error: {prefix} is not activated: this host can't run demo 1.0: 2 req")
    assert "found; this bundle needs >= 99: use a host with a newer kernel" in said[1]
    assert "found; this bundle needs >= 99.9: use a newer system" in said[2]
    assert len(said) == 4 and "ENVPACK_SKIP_CHECK=1" in said[3]
    assert not (prefix / ".envpack/check").exists()


def test_on_a_terminal_a_refusal_breaks_lines_between_words(tmp_path: Path) -> None:
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9", "kernel": "99"}})
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    shell = installed("bash")
    subprocess.run([*shell.argv, "-c", shell.source(prefix)], env=environ(tmp_path), stderr=end)
    os.close(end)
    lines = os.read(terminal, 1 << 16).decode().splitlines()
    os.close(terminal)
    assert " ".join(line.strip() for line in lines).count("this bundle needs >= 99.9: use a newer system") == 1
    assert all(len(line) <= 60 for line in lines if str(tmp_path) not in line), lines


@few("dash", "zsh", of=POSIX)
def test_a_refusal_ends_a_script_that_stops_at_errors(posix: Shell, session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9"}})
    outcome = session.run(posix, ["set -eu", posix.source(prefix), "echo still here"], environ(tmp_path))
    assert (outcome.status, outcome.out) == (1, "")


@few("zsh", "fish", "tcsh")
def test_a_refusal_leaves_another_environment_active(shell: Shell, session: Session, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = deployed(tmp_path / "a", NEEDS_GLIBC)
    second = deployed(tmp_path / "b", {"requires": {"glibc": "99.9"}})
    lines = ["DUMP", shell.source(first), "DUMP", shell.source(second), "DUMP", "deactivate", "DUMP"]
    before, active, still_active, after = session.run(shell, lines, environ(tmp_path)).environments
    assert (still_active, after) == (active, before)


def test_the_check_can_be_skipped(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9"}})
    lines = ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"]
    outcome = session.run(shell, lines, environ(tmp_path, ENVPACK_SKIP_CHECK="1"))
    everything_back(outcome)
    assert outcome.environments[1]["CONDA_PREFIX"] == str(prefix)


@pytest.mark.parametrize("options", [{"check": True, "allow": ["glibc"]}, {"allow": ["kernel", "glibc"]}])
def test_what_a_deployment_allows_stays_allowed(session: Session, tmp_path: Path, options: dict[str, Any]) -> None:
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9"}}, **options)
    outcome = session.run(installed("dash"), [f". {prefix}/bin/activate", "DUMP"], environ(tmp_path))
    assert (outcome.err, outcome.environments[0]["CONDA_PREFIX"]) == ("", str(prefix))


def test_one_shell_checks_for_all(session: Session, tmp_path: Path) -> None:
    """Each shell reads the same facts of the host, and so makes the same stamp."""
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    settings = environ(tmp_path, CUDA_VISIBLE_DEVICES="0,1", LD_LIBRARY_PATH=f"{tmp_path}/a b:/c")
    first = session.run(installed("bash"), [f". {prefix}/bin/activate"], settings)
    assert (first.status, first.err) == (0, "")
    assert len((prefix / ".envpack/check").read_text().splitlines()) == 1
    forget_how(prefix)
    for shell in SHELLS.values():
        if shutil.which(shell.argv[0]):
            outcome = session.run(shell, ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"], settings)
            everything_back(outcome)


@few("bash", "busybox", of=POSIX)
def test_an_unchanged_host_is_activated_without_running_a_program(
    posix: Shell, session: Session, tmp_path: Path
) -> None:
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("strace is not installed")
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    assert session.run(posix, [posix.source(prefix)], environ(tmp_path)).err == ""
    script, trace = tmp_path / "script", tmp_path / "trace"
    script.write_text(posix.source(prefix) + "\n")
    command = [tracer, "-f", "-e", "execve", "-o", trace, *posix.argv, script]
    subprocess.run(command, env=environ(tmp_path), check=True)
    programs = [line.split('"')[1] for line in trace.read_text().splitlines() if "execve(" in line][1:]
    assert {Path(program).name for program in programs} <= {"readlink", "printf"}


@few("bash", "fish", "tcsh")
def test_a_change_is_checked_again(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    other = shell.export("CONDA_OVERRIDE_GLIBC", "2.12")
    lines = [shell.source(prefix), "deactivate", other, shell.source(prefix), STATUS[shell.suffix]]
    lines += [shell.unset("CONDA_OVERRIDE_GLIBC"), shell.source(prefix), STATUS[shell.suffix], "deactivate"]
    outcome = session.run(shell, lines, environ(tmp_path))
    assert outcome.out == "1\n0\n"
    assert "glibc 2.12 found; this bundle needs >= 2.17" in outcome.err


@few("dash", "zsh", "ksh", "fish", "tcsh")
def test_an_update_of_the_driver_s_libraries_is_checked_again(
    shell: Shell, session: Session, tmp_path: Path
) -> None:
    """The kernel module stays the old one until the host is booted; only the files of the libraries change."""
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    folder = tmp_path / "driver *"
    folder.mkdir()
    (folder / "libnvidia-ml.so.1").touch()
    (folder / "libnvidia-ml.so.570.124.06").touch()
    variables = environ(tmp_path, LD_LIBRARY_PATH=f"/nowhere:{folder}:")
    session.run(shell, [shell.source(prefix)], variables)
    forget_how(prefix)
    assert CANT_SAY not in session.run(shell, [shell.source(prefix)], variables).err
    (folder / "libnvidia-ml.so.570.124.06").rename(folder / "libnvidia-ml.so.580.95.05")
    assert CANT_SAY in session.run(shell, [shell.source(prefix)], variables).err


GLOBBING = {
    "bash": [
        "",
        "shopt -s failglob",
        "shopt -s nullglob",
        "set -f",
        "set -euf; shopt -s failglob nocaseglob dotglob",
    ],
    "dash": ["", "set -euf"],
    "zsh": ["", "setopt noglob", "setopt nullglob", "setopt cshnullglob", "set -euf"],
    "ksh": ["set -euf"],
    "mksh": ["set -euf"],
    "busybox": ["set -euf"],
}


@pytest.mark.parametrize("name", GLOBBING)
def test_globs_find_the_driver_s_libraries_under_any_options(session: Session, tmp_path: Path, name: str) -> None:
    """Also where one kind of library is missing, so that a glob matches nothing."""
    shell, prefix = installed(name), deployed(tmp_path, NEEDS_GLIBC)
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / "libcuda.so.1").touch()
    (folder / "libcuda.so.570.124.06").touch()
    variables = environ(tmp_path, LD_LIBRARY_PATH=str(folder))
    for setting in GLOBBING[name]:
        outcome = session.run(shell, [setting, shell.source(prefix), "DUMP"], variables)
        assert (outcome.err, outcome.environments[0]["CONDA_PREFIX"]) == ("", str(prefix)), setting
    (stamp,) = (prefix / ".envpack/check").read_text().splitlines()
    assert stamp.endswith(f"|{folder} libcuda.so.570.124.06")


@few("bash", "mksh", "fish", "tcsh")
@pytest.mark.parametrize(
    "name", ["check", *(pytest.param(name, marks=pytest.mark.long) for name in ("manifest.sha256", "prefix"))]
)
def test_a_fifo_among_envpack_s_files_is_not_waited_for(
    shell: Shell, session: Session, tmp_path: Path, name: str
) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    (prefix / ".envpack" / name).unlink(missing_ok=True)
    os.mkfifo(prefix / ".envpack" / name)
    line = f"timeout -s KILL 30 {' '.join(shell.argv)} -c {shlex.quote(shell.source(prefix))} </dev/null"
    assert session.run(installed("bash"), [line], environ(tmp_path)).status not in (124, 137)


def test_another_bundle_at_the_same_place_is_checked_again(session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    shell = installed("bash")
    assert session.run(shell, [shell.source(prefix)], environ(tmp_path)).err == ""
    stamp = (prefix / ".envpack/check").read_text()
    shutil.rmtree(prefix)
    (tmp_path / "b.tar.gz").unlink()
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9"}})
    (prefix / ".envpack/check").write_text(stamp)
    outcome = session.run(shell, [shell.source(prefix)], environ(tmp_path))
    assert (outcome.status, "can't run demo" in outcome.err) == (1, True)


@pytest.mark.parametrize("place", ["XDG_CACHE_HOME", "HOME"])
def test_where_the_deployment_can_t_be_written_the_user_s_cache_remembers(
    session: Session, tmp_path: Path, place: str
) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    (tmp_path / "user").mkdir()
    (prefix / ".envpack/check").mkdir()  # no file can take its place, not even as root
    shell, settings = installed("bash"), environ(tmp_path, **{place: str(tmp_path / "user")})
    assert session.run(shell, [shell.source(prefix)], settings).err == ""
    folder = tmp_path / "user" / (".cache/envpack/checks" if place == "HOME" else "envpack/checks")
    assert len(list(folder.iterdir())) == 1
    forget_how(prefix)
    assert session.run(shell, [shell.source(prefix)], settings).err == ""
    assert sorted(path.name for path in (prefix / ".envpack").iterdir() if path.name.startswith("check.")) == [
        "check.sh"
    ]


def test_where_nothing_remembers_the_check_is_made_each_time(session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    (prefix / ".envpack/check").mkdir()
    shell = installed("bash")
    homeless = {**BARE, "HOME": str(tmp_path / "none")}
    assert session.run(shell, [shell.source(prefix)], homeless).err == ""
    forget_how(prefix)
    outcome = session.run(shell, [shell.source(prefix), "DUMP"], homeless)
    assert CANT_SAY in outcome.err
    assert not Path(homeless["HOME"]).exists()
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)


def test_hosts_that_share_a_deployment_have_a_line_each(session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    shell = installed("bash")
    for number in range(40):
        lines = [f"export CUDA_VISIBLE_DEVICES={number}", shell.source(prefix)]
        if number in (0, 1, 39):
            assert session.run(shell, lines, environ(tmp_path)).err == ""
        else:
            stamp = (prefix / ".envpack/check").read_text().splitlines()
            (prefix / ".envpack/check").write_text(
                "\n".join([stamp[0].replace("|1||", f"|{number}||"), *stamp]) + "\n"
            )
    kept = (prefix / ".envpack/check").read_text().splitlines()
    assert len(kept) == 32 and "|39||" in kept[0]


def test_a_python_that_does_not_start_is_the_reason(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    (prefix / "bin/python").write_text("#!/bin/sh\necho \"version 'GLIBC_2.99' not found\" >&2\nexit 1\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    outcome = session.run(
        shell, ["DUMP", shell.source(prefix), STATUS[shell.suffix], "DUMP"], environ(tmp_path, PATH=str(empty))
    )
    assert outcome.environments[0] == outcome.environments[1]
    assert outcome.out == "1\n"
    assert f"Python in {prefix} does not start on this host:\n  version 'GLIBC_2.99' not found" in outcome.err


def test_a_gpu_environment_follows_driver_and_devices(session: Session, tmp_path: Path) -> None:
    stubs = build_stubs(tmp_path / "stubs")
    prefix = deployed(tmp_path, CU126)
    shell = installed("bash")
    old = Host("470.57.02", 11040, [RTX3090], environ=environ(tmp_path)).environment(stubs, tmp_path)
    refused = session.run(shell, [shell.source(prefix)], old)
    assert refused.status == 1
    assert "driver 470.57.02 found; this bundle's CUDA 12.6 needs >= 525.60.13: update the driver" in refused.err
    new = {**old, "NVML_STUB_DRIVER": "535.129.03", "NVML_STUB_CUDA": "12020"}
    taken = session.run(shell, [shell.source(prefix)], new)
    assert (taken.status, taken.err) == (0, "")
    hidden = session.run(shell, [shell.source(prefix)], {**new, "CUDA_VISIBLE_DEVICES": ""})
    assert (hidden.status, "CUDA_VISIBLE_DEVICES hides every GPU" in hidden.err) == (1, True)


# conda's own activation


def conda_activation(prefix: Path, shell: str) -> str:
    """The script with which rattler activates an environment, as micromamba and pixi do; it sources activate.d."""
    kinds = {"bash": RattlerShell.bash, "zsh": RattlerShell.zsh, "fish": RattlerShell.fish}
    return activate(prefix, ActivationVariables(), kinds[shell]).script


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_conda_s_activation_meets_the_check_as_a_warning(session: Session, tmp_path: Path, name: str) -> None:
    shell = installed(name)
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9"}})
    outcome = session.run(shell, [conda_activation(prefix, name), "DUMP"], environ(tmp_path))
    assert outcome.err.startswith(f"envpack: warning: {prefix}: this host can't run demo 1.0")
    assert "this bundle needs >= 99.9: use a newer system" in outcome.err
    assert outcome.environments[0]["CONDA_PREFIX"] == str(prefix)


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_conda_s_activation_is_silent_on_a_host_that_does(session: Session, tmp_path: Path, name: str) -> None:
    shell = installed(name)
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    outcome = session.run(shell, [conda_activation(prefix, name), "DUMP"], environ(tmp_path))
    assert (outcome.status, outcome.err) == (0, "")
    assert (prefix / ".envpack/check").exists()


def test_conda_s_script_in_csh_warns_too(session: Session, tmp_path: Path) -> None:
    shell = installed("tcsh")
    prefix = deployed(tmp_path, {"requires": {"glibc": "99.9"}})
    hook = f"source {prefix}/etc/conda/activate.d/~envpack-check.csh"
    outcome = session.run(shell, [hook, shell.export("CONDA_PREFIX", str(prefix)), hook], environ(tmp_path))
    assert outcome.err.count("this host can't run demo 1.0") == 1
    assert outcome.status == 0


@few("bash", "fish", "tcsh")
def test_envpack_s_own_activation_does_not_report_twice(shell: Shell, session: Session, tmp_path: Path) -> None:
    """The script for conda lies among those that every activation sources."""
    prefix = deployed(tmp_path, NEEDS_GLIBC)
    script = prefix / f"etc/conda/activate.d/~envpack-check{shell.suffix or '.sh'}"
    assert script.is_file()
    script.write_text("echo the script for conda was run\n")
    outcome = session.run(shell, [shell.source(prefix), "deactivate"], environ(tmp_path))
    assert (outcome.out, outcome.err) == ("", "")
