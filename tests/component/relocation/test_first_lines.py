"""Scripts of every kind run the deployed interpreter without activation: in short, long and blank paths."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix
from support.trees import environment

# neither `env NAME` nor anything else finds a program by its name
NOWHERE = {"PATH": "/nonexistent", "LANG": "C.UTF-8", "GUILE_AUTO_COMPILE": "0"}
ARGUMENTS = ("one", "two words", "$three", "é")
SHOWN = "|".join(ARGUMENTS) + "\n"
PYTHON = os.path.realpath(sys.executable)


@dataclass(frozen=True)
class Script:
    """``text``, with @/ for the prefix; what it prints, and the program that its interpreter is a link to."""

    text: str
    program: str
    printed: str = SHOWN
    encoding: str = "utf-8"
    arguments: tuple[str, ...] = ARGUMENTS
    path: str = NOWHERE["PATH"]

    @property
    def interpreter(self) -> str:
        return self.text.split("@/", 1)[1].split("\n")[0].split(" ")[0].strip('"')


def script(interpreter: str, body: str, program: str = "", printed: str = SHOWN) -> Script:
    return Script(f"#!@/bin/{interpreter}\n{body}\n", program or interpreter.split()[0], printed)


SHOW = "import sys; print('|'.join(sys.argv[1:]))"
FLAGS = "import sys; print(sys.flags.no_user_site, sys.flags.ignore_environment)"
ECHO = "IFS='|'; printf '%s\\n' \"$*\""
DOC = '"""The docstring."""\nfrom __future__ import annotations\nprint(__doc__)'
AWK = 'BEGIN { for (i = 1; i < ARGC; i++) printf "%s%s", ARGV[i], i < ARGC - 1 ? "|" : "\\n" }'
PERL = "print join('|', @ARGV), \"\\n\";"

# in every Debian and in CI
ALWAYS = {
    "python": script("python", SHOW, PYTHON),
    "python -s": script("python3.11 -s", FLAGS, PYTHON, "1 0\n"),
    "python with two arguments": script("python -s -E", FLAGS, PYTHON, "1 1\n"),
    "python by env -S": Script(f"#!/usr/bin/env -S @/bin/python -s -E\n{FLAGS}\n", PYTHON, "1 1\n"),
    "python by env": Script(f"#!/usr/bin/env @/bin/python\n{SHOW}\n", PYTHON),
    "python, docstring": script("python", DOC, PYTHON, "The docstring.\n"),
    "python, docstring after comments": script("python", "\n# licence\n\n" + DOC, PYTHON, "The docstring.\n"),
    "python, latin-1": Script(
        "#!@/bin/python\n# -*- coding: latin-1 -*-\nprint(ascii('é'))\n", PYTHON, "'\\xe9'\n", encoding="latin-1"
    ),
    "distlib": Script(f"#!/bin/sh\n'''exec' \"@/bin/python\" \"$0\" \"$@\"\n' '''\n{SHOW}\n", PYTHON),
    "conda": Script(f"#!/bin/sh\n'''exec' \"@/bin/python\" -s \"$0\" \"$@\" #'''\n{FLAGS}\n", PYTHON, "1 0\n"),
    "sh": script("sh", ECHO, "/bin/sh"),
    "bash": script("bash -e", f"[[ $BASH == */bin/bash ]]; {ECHO}", "/bin/bash"),
    "dash": script("dash", ECHO),
    "perl": script("perl", PERL),
    "perl -w": script("perl -w", f"print $^W, ' ', <DATA>; {PERL}\n__END__\ndata", "", f"1 data\n{SHOWN}"),
    "awk": script("awk -f", AWK),
    "sed": Script("#!@/bin/sed -nf\n1 s/.*/the first &/p\n", "sed", "the first line\n", arguments=()),
}
# where they are installed; tests/component/relocation/test_shebang_lines.py has the bytes of all of them
ELSEWHERE = {
    "zsh": script("zsh -e", ECHO),
    "ksh": script("ksh", ECHO),
    "fish": script("fish", "string join '|' -- $argv"),
    "tcsh": script("tcsh -f", 'echo "$argv[1]|$argv[2]|$argv[3]|$argv[4]"'),
    "tclsh": script("tclsh", "puts [join $argv |]"),
    "expect": script("expect -f", "puts [join $argv |]"),
    "node": script("node", "'use strict';\n(function () { console.log(process.argv.slice(2).join('|')) })()"),
    "ruby": script("ruby -w", "# encoding: utf-8\nputs ARGV.join('|'), $VERBOSE", "", f"{SHOWN}true\n"),
    "lua": script("lua5.4", "print(table.concat(arg, '|'))"),
    "Rscript": Script(  # R is a shell script itself
        "#!@/bin/Rscript --vanilla\ncat(paste(commandArgs(TRUE), collapse='|'), '\\n', sep='')\n",
        "Rscript",
        path="/usr/bin:/bin",
    ),
    "gawk": script("gawk -f", AWK),
    "guile": script("guile -s", '!#\n(display (string-join (cdr (command-line)) "|")) (newline)'),
}
BY_ENV = script("php -n", "<?php echo implode('|', array_slice($argv, 1)), \"\\n\";")
ALL = {**ALWAYS, **ELSEWHERE, "php": BY_ENV}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    made = SmallPrefix(folder / "env")
    for name, each in ALL.items():
        text = each.text.replace("@/", f"{made.path}/")
        made.write(f"bin/the {name}", text.encode(each.encoding), 0o755)
    made.pack(folder / "b.tar.zst")
    return folder / "b.tar.zst"


PLACES = ["short", "with blanks", "long" * 35, "longer" * 40, "long and with blanks " * 11 + "x"]


@pytest.fixture(scope="module")
def places(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The paths of the deployments, with links to real interpreters in each."""
    folder = tmp_path_factory.mktemp("p")
    for place in PLACES:
        deploy(bundle, folder / place, reporter=RecordingReporter(), decoders=FAST)
        link_interpreters(folder / place)
    return {place: folder / place for place in PLACES}


def link_interpreters(root: Path) -> None:
    for each in ALL.values():
        program = shutil.which(each.program)
        link = root / each.interpreter
        if program is not None and not link.is_symlink():
            link.symlink_to(program)


def run(root: Path, name: str) -> str:
    command = [str(root / f"bin/the {name}"), *ALL[name].arguments]
    environment = {**NOWHERE, "PATH": ALL[name].path, "HOME": str(root.parent)}
    done = subprocess.run(command, env=environment, cwd="/", input="line\n", capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", (done.stderr, (root / f"bin/the {name}").read_bytes()[:500])
    return done.stdout


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(
            place, id=f"{place[:12].strip()}-{len(place)}", marks=[pytest.mark.long] if index == 3 else []
        )
        for index, place in enumerate(PLACES)  # the fourth is as the third, but for its length
    ],
)
@pytest.mark.parametrize("name", ALWAYS)
def test_a_script_runs_the_deployed_interpreter(places: dict[str, Path], name: str, place: str) -> None:
    assert run(places[place], name) == ALL[name].printed


@pytest.mark.parametrize("some", [(0, 4), pytest.param((1, 2, 3), marks=pytest.mark.long)], ids=["two", "others"])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_script_of_a_language_that_not_all_have_does_too(
    places: dict[str, Path], name: str, some: tuple[int, ...]
) -> None:
    if shutil.which(ALL[name].program) is None:
        pytest.skip(f"{ALL[name].program} is not installed")
    for index in some:
        root = places[PLACES[index]]
        assert run(root, name) == ALL[name].printed


def test_scripts_stay_themselves_from_place_to_place(bundle: Path, tmp_path: Path) -> None:
    """Each move gives what a deployment to there gives, and the last one what the first had."""
    reporter = RecordingReporter()
    root = tmp_path / "moved" / "short"  # "moved" and "again": of one length, as some first lines depend on it
    root.parent.mkdir()
    deploy(bundle, root, reporter=reporter, decoders=FAST)
    first = environment(root)
    for place in (*PLACES[1:], PLACES[0]):
        root = root.rename(root.parent / place)
        assert rewrite_prefix(root, reporter).changed == ()
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        direct = tmp_path / "again"
        direct.mkdir()
        deploy(bundle, direct / place, reporter=reporter, decoders=FAST)
        here, there = os.fsencode(root), os.fsencode(direct / place)
        assert {path: as_if(content, here) for path, (_, content) in environment(root).items()} == {
            path: as_if(content, there) for path, (_, content) in environment(direct / place).items()
        }
    assert environment(root) == first


def as_if(content: str | bytes, prefix: bytes) -> str | bytes:
    return content.replace(prefix, b"@") if isinstance(content, bytes) else content


def test_an_environment_that_was_deployed_far_away_packs_to_the_same_bytes(
    places: dict[str, Path], tmp_path: Path
) -> None:
    """Whatever first lines a script has, the direct one is stored."""
    first = {record: stored(places[PLACES[0]], record, tmp_path) for record in ("the perl -w", "the tclsh")}
    for place in PLACES[1:]:
        assert {record: stored(places[place], record, tmp_path) for record in first} == first


def stored(root: Path, name: str, folder: Path) -> bytes:
    """Return the stored form of a script that is deployed to a short path."""
    shutil.rmtree(folder / "again", ignore_errors=True)
    made = SmallPrefix(folder / "again/env")
    text = (root / "bin" / name).read_bytes().replace(os.fsencode(root), os.fsencode(made.path))
    made.write(f"bin/{name}", text, 0o755)
    deployed = made.moved(folder / "again/to")
    return (deployed / "bin" / name).read_bytes().replace(os.fsencode(deployed), b"@")


def test_what_needs_activation_in_a_long_place_is_reported_when_packing_and_when_deploying(tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    made.write("bin/page", f"#!{made.path}/bin/php -n\n<?php\n", 0o755)
    made.write("bin/odd", f"#!/usr/bin/env -S X=1 {made.path}/bin/python\n", 0o755)
    made.write("bin/fine", f"#!{made.path}/bin/python\n", 0o755)
    made.write("bin/module", f"#!{made.path}/bin/php\n")
    manifest = made.pack(tmp_path / "b.tar.zst")
    assert manifest.changes.needs_activation == ("bin/odd", "bin/page")
    assert manifest.changes.unrelocatable == ()
    for place, needs in (("x", False), ("a b", False), ("l" * 150, True), ("a b" * 50, True)):
        reporter = RecordingReporter()
        deploy(tmp_path / "b.tar.zst", tmp_path / place, reporter=reporter, decoders=FAST)
        assert any("bin/page" in note and "activated" in note for note in reporter.notes) == needs, (
            place,
            reporter.notes,
        )
    line = (tmp_path / "a b/bin/page").read_text().split("\n")[0]
    assert line == f'#!/usr/bin/env -S "{tmp_path}/a b/bin/php" "-n"'
    assert (tmp_path / ("l" * 150) / "bin/page").read_text().startswith("#!/usr/bin/env -S php -n\n")


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shell_script_that_is_sourced_does_not_start_another_shell(places: dict[str, Path], shell: str) -> None:
    root = places["with blanks"]
    (root / "bin/sourced").write_bytes((root / "bin/the bash").read_bytes().split(b"\n[[")[0] + b"\nfound=yes\n")
    if shell == "bash":
        command = [shell, "-c", f'. "{root}/bin/sourced"; echo $found $$']
    else:  # which knows of itself that it is interactive
        command = [shell, "-ic", f'. "{root}/bin/sourced"; echo $found $$']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        said, _ = process.communicate()
    assert said.split() == ["yes", str(process.pid)]
