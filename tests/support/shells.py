"""Real shells, a few lines of each one's language, and a deployment to activate in them.

The deployment is a stand-in: the real scripts, a real Python, and a runtime that only notes where it was called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from envpack.runtime.activation import scripts
from envpack.runtime.activation.variables import variable_scripts

PYTHON = os.path.realpath(sys.executable)
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}

# appends the exported environment to a file: NAME=VALUE and a NUL each, another NUL at the end
DUMP = """#!/bin/sh
exec >>"$0.out"
/usr/bin/env -0
printf '\\0'
"""
SHELLS_OWN = {"_", "PWD", "OLDPWD", "SHLVL", "_AST_FEATURES", "A__z"}

# stands in for the real runtime, which other tests unpack with
RUNTIME = """
import os, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("envpack 0") or 0)
command, prefix = sys.argv[1:3]
assert command == "unpack" and sys.flags.isolated and sys.flags.no_site
home = os.path.join(os.path.realpath(prefix), ".envpack")
if os.path.exists(os.path.join(home, "refuse")):
    sys.exit("the stand-in refuses")
with open(os.path.join(home, "unpacked"), "a") as file:
    print(sys.executable, file=file)
with open(os.path.join(home, "prefix"), "w") as file:
    print(os.path.realpath(prefix), file=file)
print("written in")
"""


@dataclass(frozen=True)
class Shell:
    """The syntax of a shell, for the commands of the tests."""

    argv: tuple[str, ...]
    suffix: str = ""

    def quote(self, text: str) -> str:
        if self.suffix == ".csh":
            return "".join(c if c.isalnum() or c in "/_." else f"\\{c}" for c in text)
        if self.suffix == ".fish":
            text = text.replace("\\", "\\\\")
        return "'" + text.replace("'", "\\'" if self.suffix == ".fish" else "'\\''") + "'"

    def source(self, prefix: Path | str) -> str:
        verb = "source" if self.suffix else "."
        return f"{verb} {self.quote(f'{prefix}/bin/activate{self.suffix}')}"

    def export(self, name: str, value: str) -> str:
        verb = {"": f"export {name}=", ".fish": f"set -gx {name} ", ".csh": f"setenv {name} "}[self.suffix]
        return verb + self.quote(value)

    def unset(self, name: str) -> str:
        return {"": "unset", ".fish": "set -e", ".csh": "unsetenv"}[self.suffix] + f" {name}"


SHELLS = {
    "bash": Shell(("bash", "--norc", "--noprofile")),
    "dash": Shell(("dash",)),
    "zsh": Shell(("zsh", "-f")),
    "ksh": Shell(("ksh",)),
    "mksh": Shell(("mksh",)),
    "busybox": Shell(("busybox", "ash")),
    "fish": Shell(("fish", "--no-config"), ".fish"),
    "tcsh": Shell(("tcsh", "-f"), ".csh"),
}
if os.path.realpath(shutil.which("sh") or "") not in [
    os.path.realpath(f"/bin/{name}") for name in ("bash", "dash")
]:
    SHELLS["sh"] = Shell(("sh",))
POSIX = [name for name, shell in SHELLS.items() if not shell.suffix]


def few(*names: str, of: Sequence[str] = tuple(SHELLS)) -> pytest.MarkDecorator:
    """Run a test in these shells; in the others of ``of`` it takes long, and shows what other tests show there."""
    kind = "posix" if list(of) == POSIX else "shell"
    cases = [pytest.param(name, marks=() if name in names else pytest.mark.long) for name in of]
    return pytest.mark.parametrize(kind, cases, indirect=True)


def installed(name: str) -> Shell:
    shell = SHELLS[name]
    if shutil.which(shell.argv[0]) is None:
        assert name not in ("bash", "sh"), f"{name} is part of every system"
        pytest.skip(f"{name} is not installed")
    return shell


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str
    environments: list[dict[str, str]]


class Session:
    """Runs lines of shell in a folder of its own; the line ``DUMP`` records the exported environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dumper = folder / "dump"
        self.dumper.write_text(DUMP)
        self.dumper.chmod(0o755)
        self.dumps = folder / "dump.out"

    def run(
        self,
        shell: Shell,
        lines: Sequence[str],
        env: Mapping[str, str] = BARE,
        options: Sequence[str] = (),
        cwd: Path | None = None,
        stdin: str = "",
    ) -> Outcome:
        self.dumps.write_text("")
        script = self.folder / "script"
        script.write_text("".join(f"{line}\n" for line in lines).replace("DUMP", str(self.dumper)))
        done = subprocess.run(
            [shutil.which(shell.argv[0]) or "", *shell.argv[1:], *options, str(script)],
            env=dict(env),
            cwd=cwd or self.folder,
            input=stdin,
            capture_output=True,
            text=True,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, self.environments())

    def environments(self) -> list[dict[str, str]]:
        """Return the recorded variables, without those of the shell itself."""
        return [
            {
                name: value
                for name, _, value in (variable.partition("=") for variable in record.split("\0"))
                if name not in SHELLS_OWN
            }
            for record in self.dumps.read_bytes().decode().split("\0\0")[:-1]
        ]


def make_tree(prefix: Path, variables: Mapping[str, str] | None = None, written_in: bool = True) -> Path:
    """Make a deployment, as ``tar -x`` leaves it or after the prefix was written."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/python").symlink_to(PYTHON)
    for folder in (".envpack", "etc/conda/activate.d", "etc/conda/deactivate.d"):
        (prefix / folder).mkdir(parents=True)
    for path, (data, mode) in scripts().items():
        (prefix / path).write_bytes(data)
        (prefix / path).chmod(mode)
    for path, data in variable_scripts(variables or {}).items():
        (prefix / path).write_bytes(data)
    with zipfile.ZipFile(prefix / ".envpack/runtime.pyz", "w") as archive:
        archive.writestr("__main__.py", RUNTIME)
    if written_in:
        (prefix / ".envpack/prefix").write_text(f"{prefix.resolve()}\n")
    return prefix


def add_script(prefix: Path, name: str, sh: str, fish: str, csh: str) -> None:
    """Add a package's script, such as activate.d/gdal, for every kind of shell."""
    for suffix, text in ((".sh", sh), (".fish", fish), (".csh", csh)):
        path = prefix / "etc/conda" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def add_echo(prefix: Path, name: str, text: str) -> None:
    """Add a package's script that prints ``text``, in which ``$NAME`` is the same in every kind of shell."""
    add_script(prefix, name, *[f'echo "{text}"'] * 3)


def unpackings(prefix: Path) -> int:
    noted = prefix / ".envpack/unpacked"
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def everything_back(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    assert outcome.environments[-1] == outcome.environments[0]
