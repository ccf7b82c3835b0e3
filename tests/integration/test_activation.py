"""Activation in the shells themselves: what it sets, and that leaving puts everything back.

The environment is a stand-in: the real scripts, a real Python, and a runtime that only notes where it was called.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from envpack.runtime.activation import scripts, variable_scripts

PYTHON = os.path.realpath(sys.executable)
BARE = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}

# appends the exported environment to the file named
DUMP = """
import json, os, sys
skip = {"_", "PWD", "OLDPWD", "SHLVL", "_AST_FEATURES", "A__z"}  # the shells' own
environment = {k: v for k, v in os.environ.items() if k not in skip}
with open(sys.argv[1], "a") as file:
    print(json.dumps(environment), file=file)
"""

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
    """How to say the few things the tests say, in a shell's own words."""

    argv: tuple[str, ...]
    suffix: str = ""

    @property
    def dialect(self) -> str:
        return self.suffix or ".sh"

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
    "sh": Shell(("sh",)),
    "dash": Shell(("dash",)),
    "zsh": Shell(("zsh", "-f")),
    "ksh": Shell(("ksh",)),
    "mksh": Shell(("mksh",)),
    "busybox": Shell(("busybox", "ash")),
    "fish": Shell(("fish", "--no-config"), ".fish"),
    "tcsh": Shell(("tcsh", "-f"), ".csh"),
}
POSIX = [name for name, shell in SHELLS.items() if not shell.suffix]


def installed(name: str) -> Shell:
    shell = SHELLS[name]
    if shutil.which(shell.argv[0]) is None:
        assert name not in ("bash", "sh"), f"{name} is part of every system envpack supports"
        pytest.skip(f"{name} is not installed")
    return shell


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Shell:
    return installed(request.param)


@pytest.fixture(params=POSIX)
def posix(request: pytest.FixtureRequest) -> Shell:
    return installed(request.param)


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
        self.dumper = folder / "dump.py"
        self.dumper.write_text(DUMP)
        self.dumps = folder / "dumps"

    def run(
        self,
        shell: Shell,
        lines: Sequence[str],
        env: Mapping[str, str] = BARE,
        options: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> Outcome:
        self.dumps.write_text("")
        dump = f"{PYTHON} -I -S {self.dumper} {self.dumps}"
        script = self.folder / "script"
        script.write_text("".join(f"{dump if line == 'DUMP' else line}\n" for line in lines))
        done = subprocess.run(
            [shutil.which(shell.argv[0]) or "", *shell.argv[1:], *options, str(script)],
            env=dict(env),
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
        )
        dumps = [json.loads(line) for line in self.dumps.read_text().splitlines()]
        return Outcome(done.returncode, done.stdout, done.stderr, dumps)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def make_tree(prefix: Path, variables: Mapping[str, str] | None = None, written_in: bool = True) -> Path:
    """A deployment, as ``tar -x`` leaves it or as it is when the prefix has been written in."""
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
    """A package's script, such as activate.d/gdal, for every kind of shell."""
    for suffix, text in ((".sh", sh), (".fish", fish), (".csh", csh)):
        path = prefix / "etc/conda" / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def add_echo(prefix: Path, name: str, text: str) -> None:
    """A package's script that says ``text``, in which ``$NAME`` is the same in every kind of shell."""
    add_script(prefix, name, *[f'echo "{text}"'] * 3)


def unpackings(prefix: Path) -> int:
    noted = prefix / ".envpack/unpacked"
    return len(noted.read_text().splitlines()) if noted.exists() else 0


def everything_back(outcome: Outcome) -> None:
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    assert outcome.environments[-1] == outcome.environments[0]


# What activation sets


def test_sets_what_conda_sets(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", {"LICENSE_SERVER": "27000@host"})
    outcome = session.run(shell, [shell.source(prefix), "DUMP", "python --version"])
    (active,) = outcome.environments
    assert active["CONDA_PREFIX"] == str(prefix)
    assert active["CONDA_DEFAULT_ENV"] == "env"
    assert active["CONDA_SHLVL"] == "1"
    assert active["CONDA_PROMPT_MODIFIER"] == "(env) "
    assert active["PATH"] == f"{prefix}/bin:/usr/bin:/bin"
    assert active["LICENSE_SERVER"] == "27000@host"
    assert outcome.out.startswith("Python 3")
    assert (outcome.status, outcome.err) == (0, "")


def test_packages_scripts_run_in_condas_order(shell: Shell, session: Session, tmp_path: Path) -> None:
    """By bytes, whatever the locale: conda-forge's ~cuda-nvcc_activate relies on being the last."""
    prefix = make_tree(tmp_path / "env", {"VARIABLE": "set"})
    for name in ("~cuda", "Zlib", "gcc", "_first", "10", "9"):
        add_echo(prefix, f"activate.d/{name}", f"+{name} $VARIABLE $CONDA_DEFAULT_ENV")
        add_echo(prefix, f"deactivate.d/{name}", f"-{name} $VARIABLE $CONDA_DEFAULT_ENV")
    outcome = session.run(shell, [shell.source(prefix), "deactivate"])
    ordered = ["10", "9", "Zlib", "_first", "gcc", "~cuda"]
    assert outcome.out.splitlines() == [f"+{name} set env" for name in ordered] + [
        f"-{name} set env" for name in reversed(ordered)
    ]


def test_any_value_of_a_variable_arrives_as_it_is(shell: Shell, session: Session, tmp_path: Path) -> None:
    characters = [chr(code) for code in range(1, 128)] + list("éß€語😀\u00a0\u2028")
    source = random.Random(20261121)
    variables = {
        "EMPTY": "",
        "BLANKS": "  two  ",
        "QUOTES": "it's \"quoted\" `so` $HOME ${HOME} $(id) \\$HOME \\\\ \\",
        "HISTORY": "!! !1 a!b \\!c !",
        "SEVERAL_LINES": "\nfirst\n\n  second\\\nthird\n",
        "GLOBS": "* ? [a-z] {a,b} ~ ~root #no <in >out |p &b ;c (d) %e ^f",
        "LOOKS_LIKE_AN_OPTION": "-n -e",
        "EVERY": "".join(characters),
        "SEARCH_PATH": "/a::/b c:",
    }
    for number in range(40):
        variables[f"RANDOM_{number}"] = "".join(source.choices(characters, k=source.randrange(1, 30)))
    prefix = make_tree(tmp_path / "env", variables)
    for locale in ("C.UTF-8", "C"):
        outcome = session.run(shell, [shell.source(prefix), "DUMP"], {**BARE, "LANG": locale})
        assert outcome.err == ""
        assert {name: outcome.environments[0].get(name) for name in variables} == variables


# Leaving


@pytest.mark.parametrize("values", ["unset before", "set before", "empty before"])
def test_leaving_puts_everything_back(
    shell: Shell, session: Session, tmp_path: Path, values: str
) -> None:
    prefix = make_tree(tmp_path / "env", {"FIRST": "one", "SECOND": "it's\ntwo $HOME"})
    before = {"unset before": {}, "set before": {"FIRST": "my 'own'\\\n$x", "SECOND": "s"}}
    env = {**BARE, **before.get(values, {"FIRST": "", "SECOND": ""})}
    outcome = session.run(shell, ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"], env)
    everything_back(outcome)
    assert outcome.environments[1]["FIRST"] == "one"


@pytest.mark.parametrize("path", ["", ":", "/usr/bin:", ":/usr/bin", "/a::/b", "/with blank:/*:/$x", "relative"])
def test_leaving_puts_an_odd_path_back(shell: Shell, session: Session, tmp_path: Path, path: str) -> None:
    prefix = make_tree(tmp_path / "env")
    lines = [shell.export("PATH", path), "DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"]
    if shell.suffix:
        lines[0] = f"set PATH {path!r}" if shell.suffix == ".fish" else "rehash"
    outcome = session.run(shell, lines, {**BARE, "PATH": path} if shell.suffix else BARE)
    everything_back(outcome)
    assert outcome.environments[1]["PATH"].startswith(f"{prefix}/bin")
