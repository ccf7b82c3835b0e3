"""Activation in the shells themselves: what it sets, and that leaving puts everything back."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from support.shells import BARE, POSIX, Session, Shell, add_echo, add_script, everything_back, installed, make_tree

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


def test_variables_changed_after_the_deployment_are_set(shell: Shell, session: Session, tmp_path: Path) -> None:
    """`conda env config vars set` and packages installed later; conda-meta/state wins, as in conda."""
    prefix = make_tree(tmp_path / "an env", {"PACKED": "packed", "UNSET_LATER": "1"})
    (prefix / ".envpack/runtime.pyz").write_bytes(runtime_zip())
    packages = prefix / "etc/conda/env_vars.d"
    packages.mkdir(parents=True)
    (packages / "b.json").write_text('{"FROM_PACKAGE": "b", "BOTH": "package", "NO-NAME": "x", "PATH": "/no"}')
    (packages / "a.json").write_text('{"FROM_PACKAGE": "a"}')
    text = 'it\'s "new"\n $HOME !'
    state = {"PACKED": "changed", "BOTH": "state", "TEXT": text, "UNSET_LATER": "***unset***"}
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/state").write_text(json.dumps({"version": 1, "env_vars": state}))
    for script in (prefix / ".envpack").glob("*.sh"):
        os.utime(script, (315532800, 315532800))
    outcome = session.run(shell, ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"])
    everything_back(outcome)
    active = outcome.environments[1]
    expected = {"PACKED": "changed", "BOTH": "state", "TEXT": text, "FROM_PACKAGE": "b"}
    assert {name: active.get(name) for name in expected} == expected
    assert "UNSET_LATER" not in active and "NO-NAME" not in active


def test_changed_variables_that_can_t_be_read_are_a_warning(
    shell: Shell, session: Session, tmp_path: Path
) -> None:
    prefix = make_tree(tmp_path / "env", {"PACKED": "packed"})
    (prefix / ".envpack/runtime.pyz").write_bytes(runtime_zip())
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/state").write_text("[")
    os.utime(prefix / ".envpack/changed-variables.sh", (315532800, 315532800))
    outcome = session.run(shell, [shell.source(prefix), "DUMP"])
    assert outcome.err.startswith(f"envpack: warning: {prefix}/conda-meta/state can't be read: ")
    assert outcome.environments[0]["PACKED"] == "packed"


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
        "QUOTES": 'it\'s "quoted" `so` $HOME ${HOME} $(id) \\$HOME \\\\ \\',
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
def test_leaving_puts_everything_back(shell: Shell, session: Session, tmp_path: Path, values: str) -> None:
    prefix = make_tree(tmp_path / "env", {"FIRST": "one", "SECOND": "it's\ntwo $HOME"})
    before = {"unset before": {}, "set before": {"FIRST": "my 'own'\\\n$x", "SECOND": "s"}}
    env = {**BARE, **before.get(values, {"FIRST": "", "SECOND": ""})}
    outcome = session.run(shell, ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"], env)
    everything_back(outcome)
    assert outcome.environments[1]["FIRST"] == "one"


LESS_ODD = [pytest.param(path, marks=pytest.mark.long) for path in (":", "/usr/bin:", ":/usr/bin", "relative")]


@pytest.mark.parametrize("path", ["", "/a::/b", "/with blank:/*:/$x", *LESS_ODD])
def test_leaving_puts_an_odd_path_back(shell: Shell, session: Session, tmp_path: Path, path: str) -> None:
    prefix = make_tree(tmp_path / "env")
    add_echo(prefix, "activate.d/a", "+a")
    lines = ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"]
    outcome = session.run(shell, lines, {**BARE, "PATH": path})
    everything_back(outcome)
    assert outcome.environments[1]["PATH"].startswith(f"{prefix}/bin")
    assert outcome.out == "+a\n"


def test_leaving_unsets_path(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    lines = [shell.unset("PATH"), "DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"]
    outcome = session.run(shell, lines)
    everything_back(outcome)
    assert outcome.environments[1]["PATH"].startswith(f"{prefix}/bin")


def test_an_empty_environment_is_put_back(shell: Shell, session: Session, tmp_path: Path) -> None:
    """PATH excepted: the shells that make one up for themselves can't all unexport it again."""
    prefix = make_tree(tmp_path / "env", {"VARIABLE": "x"})
    outcome = session.run(shell, ["DUMP", shell.source(prefix), "DUMP", "deactivate", "DUMP"], {})
    before, active, after = outcome.environments
    assert active["PATH"].startswith(f"{prefix}/bin")
    assert prefix.name not in after.pop("PATH", "")
    before.pop("PATH", None)
    assert (after, outcome.err) == (before, "")


def test_leaving_keeps_a_variable_of_this_shell_only_unexported(
    posix: Shell, session: Session, tmp_path: Path
) -> None:
    prefix = make_tree(tmp_path / "env", {"EDITOR": "theirs"})
    lines = ["EDITOR='my own'", "DUMP", posix.source(prefix), "DUMP", "deactivate", "DUMP", 'echo "$EDITOR"']
    outcome = session.run(posix, lines)
    everything_back(outcome)
    assert outcome.environments[1]["EDITOR"] == "theirs"
    assert outcome.out == "my own\n"


def test_leaving_keeps_what_was_added_to_path_meanwhile(shell: Shell, session: Session, tmp_path: Path) -> None:
    if shell.suffix == ".csh":
        pytest.skip("tcsh restores the earlier PATH, see activate.csh")
    prefix = make_tree(tmp_path / "env")
    lengthen = {"": 'PATH="/before:$PATH:/after"', ".fish": "set PATH /before $PATH /after"}[shell.suffix]
    outcome = session.run(shell, [shell.source(prefix), lengthen, "deactivate", "DUMP"])
    assert outcome.environments[0]["PATH"] == "/before:/usr/bin:/bin:/after"


def test_leaves_nothing_in_the_shell(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env", {"VARIABLE": "x"})
    listing = {"": "set; alias; typeset -f || :", ".fish": "set; functions -a", ".csh": "set; alias"}[shell.suffix]
    lines = [shell.source(prefix), "deactivate", "echo LEFT", listing]
    outcome = session.run(shell, lines)
    left = outcome.out.partition("LEFT")[2].replace(str(tmp_path), "")
    assert "envpack" not in left.lower()
    assert "CONDA" not in left
    assert "deactivate" not in left


def test_deactivate_is_gone_after_it_was_used(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    outcome = session.run(shell, [shell.source(prefix), "deactivate", "deactivate", "true"])
    assert "deactivate" in outcome.err


@pytest.mark.parametrize("place", ["missing", "a file", "a b"])
def test_where_temporary_files_go_does_not_matter(
    shell: Shell, session: Session, tmp_path: Path, place: str
) -> None:
    """In tcsh one is needed for variables that were changed; and it does not stay."""
    (tmp_path / "a file").touch()
    (tmp_path / "a b").mkdir()
    beneath = make_tree(tmp_path / "beneath", {"SECOND": "2"})
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"})
    add_echo(beneath, "deactivate.d/a", "-beneath")
    lines = ["DUMP", shell.source(beneath), shell.source(prefix), "DUMP", "deactivate", "deactivate", "DUMP"]
    outcome = session.run(shell, lines, {**BARE, "TMPDIR": str(tmp_path / place)})
    assert outcome.err == ""
    everything_back(outcome)
    active = outcome.environments[1]
    assert (active["CONDA_PREFIX"], active["CONDA_SHLVL"], active["FIRST"]) == (str(prefix), "2", "1")
    assert not list((tmp_path / "a b").iterdir())


# In a shell that is set up otherwise

SETTINGS = {
    "bash": [
        "set -eu",
        "set -efu -o pipefail",
        "IFS=/:; set -C",
        "shopt -s failglob nullglob nocasematch dotglob",
        "set -o posix",
        "set -a",
    ],
    "dash": ["set -eu", "set -efuC", "IFS=:/ ; set -f"],
    "zsh": [
        "set -eu",
        "setopt noglob",
        "IFS=/:; setopt shwordsplit",
        "setopt ksharrays globsubst nullglob",
        "setopt cshnullglob noclobber rcquotes nofunctionargzero",
        "emulate sh; set -eu",
        "emulate ksh",
        "setopt warncreateglobal warnnestedvar",
    ],
    "ksh": ["set -eu", "set -f; IFS=/:"],
    "mksh": ["set -eu", "set -f; IFS=/:"],
    "busybox": ["set -eu", "set -f; IFS=/:"],
    "tcsh": ["set noglob noclobber", "set nonomatch backslash_quote", "set echo_style = both; unset csubstnonl"],
}


@pytest.mark.parametrize(("name", "setting"), [(name, line) for name, lines in SETTINGS.items() for line in lines])
def test_works_under_any_options(session: Session, tmp_path: Path, name: str, setting: str) -> None:
    """And the packages' scripts, which are written for none of them, run as they do without."""
    shell = installed(name)
    prefix = make_tree(tmp_path / "an env", {"FIRST": "a  b/c:*", "SECOND": "new"})
    for script in ("activate.d/10", "activate.d/20", "deactivate.d/10"):
        lax = f'false; echo "{script}$UNHEARD_OF"; false'
        add_script(prefix, script, lax, "", f"echo {script}")
    state = "set | grep '^IFS'; set +o" if not shell.suffix else "set"
    if name == "zsh":
        state = "set | grep -a '^IFS'; setopt"
    lines = [
        *(setting, "DUMP", "echo BEFORE", state, "echo ACTIVATE"),
        *(shell.source(prefix), "DUMP", shell.source(prefix), "deactivate"),
        *("echo AFTER", state, "DUMP"),
    ]
    outcome = session.run(shell, lines, {**BARE, "FIRST": "a  b/c:*"})
    everything_back(outcome)
    assert outcome.environments[1]["FIRST"] == "a  b/c:*"
    assert outcome.environments[1]["SECOND"] == "new"
    entered, left = ["activate.d/10", "activate.d/20"], ["deactivate.d/10"]
    before, _, rest = outcome.out.partition("BEFORE\n")[2].partition("ACTIVATE\n")
    between, _, after = rest.partition("AFTER\n")
    assert between.splitlines() == entered + left + entered + left
    if not shell.suffix:
        assert after == before


@pytest.mark.parametrize("name", ["a b", 'it\'s "$HOME" `id` $(id) *[a]? ~ 100% !1 #é\\n;'])
def test_the_folder_may_have_any_name(shell: Shell, session: Session, tmp_path: Path, name: str) -> None:
    """The runtime refuses most of these; the scripts don't lean on it."""
    prefix = make_tree(tmp_path / name, {"FIRST": "1"})
    add_echo(prefix, "activate.d/a", "+a")
    add_echo(prefix, "deactivate.d/a", "-a")
    lines = ["DUMP", shell.source(prefix), "DUMP", shell.source(prefix), "deactivate", "DUMP"]
    outcome = session.run(shell, lines)
    everything_back(outcome)
    assert outcome.environments[1]["CONDA_PREFIX"] == str(prefix)
    assert outcome.environments[1]["CONDA_DEFAULT_ENV"] == name
    assert outcome.out.split() == ["+a", "-a", "+a", "-a"]


def test_input_is_left_for_the_programs_to_come(shell: Shell, session: Session, tmp_path: Path) -> None:
    """Not least ``docker run -i`` and ``ssh host 'source activate; python -' < program``."""
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"}, written_in=False)
    add_echo(prefix, "activate.d/a", "+a")
    lines = [shell.source(prefix), shell.source(prefix), "deactivate", "/bin/cat"]
    outcome = session.run(shell, lines, {**BARE, "CONDA_PREFIX": ""}, stdin="input\n")
    assert (outcome.out, outcome.err) == ("+a\n+a\ninput\n", "written in\n")


# The prompt


def prompt_after(shell: Shell, session: Session, prompt: str, lines: Sequence[str]) -> str:
    variable = "prompt" if shell.suffix else "PS1"
    verb = "set prompt = " if shell.suffix else "PS1="
    show = f'/usr/bin/env printf "%s" "${variable}:q"' if shell.suffix else '/usr/bin/env printf "%s" "$PS1"'
    outcome = session.run(shell, [verb + shell.quote(prompt), *lines, show])
    assert outcome.err == ""
    return outcome.out.partition(variable)[0]


@pytest.mark.parametrize(
    "prompt", ["(other) a'b$c ", *(pytest.param(it, marks=pytest.mark.long) for it in ("$ ", "", "%n \\u> "))]
)
def test_the_prompt_shows_the_environment_while_it_is_active(
    shell: Shell, session: Session, tmp_path: Path, prompt: str
) -> None:
    if shell.suffix == ".fish":
        pytest.skip("fish's prompt is a function and has its own test")
    enter, other = shell.source(make_tree(tmp_path / "env")), shell.source(make_tree(tmp_path / "other"))
    assert prompt_after(shell, session, prompt, [enter]) == f"(env) {prompt}"
    assert prompt_after(shell, session, prompt, [enter, enter]) == f"(env) {prompt}"
    assert prompt_after(shell, session, prompt, [enter, "deactivate"]) == prompt
    assert prompt_after(shell, session, prompt, [enter, other]) == f"(other) {prompt}"
    assert prompt_after(shell, session, prompt, [enter, other, "deactivate"]) == f"(env) {prompt}"
    assert prompt_after(shell, session, prompt, [enter, other, "deactivate", "deactivate"]) == prompt


def test_a_prompt_is_left_unset(posix: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    lines = ["unset PS1", posix.source(prefix), 'echo "${PS1-unset}"', "deactivate", 'echo "${PS1-unset}"']
    assert session.run(posix, lines).out == "unset\nunset\n"


def test_condas_switch_leaves_the_prompt_alone(shell: Shell, session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    enter = [shell.export("CONDA_CHANGEPS1", "false"), shell.source(prefix)]
    if shell.suffix != ".fish":
        assert prompt_after(shell, session, "$ ", enter) == "$ "
    assert session.run(shell, [*enter, "DUMP"]).environments[0]["CONDA_PROMPT_MODIFIER"] == ""


def test_a_prompt_changed_meanwhile_is_kept(posix: Shell, session: Session, tmp_path: Path) -> None:
    enter = posix.source(make_tree(tmp_path / "env"))
    assert prompt_after(posix, session, "$ ", [enter, 'PS1="new $PS1"', "deactivate"]) == "new $ "
    assert prompt_after(posix, session, "$ ", [enter, "PS1=mine", "deactivate"]) == "mine"


def test_a_name_is_never_run_by_the_prompt(session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "$(touch ran)`touch ran`")
    shell = installed("bash")
    session.run(shell, [shell.source(prefix), 'echo "${PS1@P}"'], {**BARE, "PS1": "$ "}, cwd=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_fish_shows_the_environment_in_its_prompt(session: Session, tmp_path: Path) -> None:
    shell = installed("fish")
    enter, other = shell.source(make_tree(tmp_path / "env")), shell.source(make_tree(tmp_path / "other"))
    own = "function fish_prompt; echo 'status '$status'> '; end"
    show = "false; fish_prompt"
    lines = [own, enter, show, enter, show, other, show, "deactivate", show, "deactivate", show]
    outcome = session.run(shell, lines, options=["--interactive"])
    assert outcome.out.splitlines() == [
        "(env) status 1> ",
        "(env) status 1> ",
        "(other) status 1> ",
        "(env) status 1> ",
        "status 1> ",
    ]


# On top of another environment


def test_environments_stack(shell: Shell, session: Session, tmp_path: Path) -> None:
    first = make_tree(tmp_path / "first", {"BOTH": "1", "ONLY_FIRST": "1"})
    second = make_tree(tmp_path / "second", {"BOTH": "2", "ONLY_SECOND": "2"})
    for prefix in (first, second):
        add_echo(prefix, "activate.d/a", f"+{prefix.name}")
        add_echo(prefix, "deactivate.d/a", f"-{prefix.name}")
    enter = [shell.source(first), "DUMP", shell.source(second), "DUMP", shell.source(second)]
    lines = ["DUMP", *enter, "deactivate", "DUMP", "deactivate", "DUMP"]
    outcome = session.run(shell, lines, {**BARE, "BOTH": "0"})
    everything_back(outcome)
    _, in_first, in_second, back_in_first, _ = outcome.environments
    assert back_in_first == in_first
    assert in_second["PATH"] == f"{second}/bin:/usr/bin:/bin"
    assert in_second["CONDA_PREFIX"] == str(second)
    assert in_second["CONDA_PREFIX_1"] == str(first)
    assert in_second["CONDA_SHLVL"] == "2"
    assert (in_second["BOTH"], in_second["ONLY_SECOND"]) == ("2", "2")
    # as conda does: what lies beneath is left, and entered again
    said = "+first -first +second -second +first -first +second -second +first -first"
    assert outcome.out.split() == said.split()


def conda_base(folder: Path) -> tuple[Path, dict[str, str]]:
    """Return the folder of base, and a shell's variables after ``conda activate base`` and a change of PATH."""
    base = folder / "miniforge3"
    (base / "bin").mkdir(parents=True)
    add_echo(base, "activate.d/a", "+base")
    add_echo(base, "deactivate.d/a", "-base")
    return base, {
        **BARE,
        "PATH": f"/mine:{base}/bin:{base}/condabin:/usr/bin:/bin",
        "CONDA_PREFIX": str(base),
        "CONDA_DEFAULT_ENV": "base",
        "CONDA_SHLVL": "1",
        "CONDA_PROMPT_MODIFIER": "(base) ",
        "CONDA_EXE": f"{base}/bin/conda",
    }


def test_stands_on_condas_base_environment(shell: Shell, session: Session, tmp_path: Path) -> None:
    base, env = conda_base(tmp_path)
    prefix = make_tree(tmp_path / "env")
    add_echo(prefix, "activate.d/a", "+env")
    add_echo(prefix, "deactivate.d/a", "-env")
    prompt = [] if shell.suffix else ["export PS1='\\u (base) $ '"]  # from the environment some don't take it
    enter = shell.source(prefix)
    lines = [*prompt, "DUMP", enter, "DUMP", enter, "DUMP", "deactivate", "DUMP"]
    outcome = session.run(shell, lines, env)
    everything_back(outcome)
    _, active, again, _ = outcome.environments
    assert again == active
    assert active["PATH"] == f"{prefix}/bin:/mine:{base}/condabin:/usr/bin:/bin"
    assert (active["CONDA_SHLVL"], active["CONDA_PREFIX_1"]) == ("2", str(base))
    if not shell.suffix:
        assert active["PS1"] == "\\u (env) $ "
    assert outcome.out.split() == ["-base", "+env", "-env", "+base", "-base", "+env", "-env", "+base"]


def test_does_not_deactivate_what_conda_activated(shell: Shell, session: Session, tmp_path: Path) -> None:
    """``conda activate`` on top of ours: our ``deactivate`` is not for that one, and is there afterwards."""
    prefix = make_tree(tmp_path / "env")
    other = tmp_path / "other"
    shutil.copytree(prefix, other, symlinks=True)
    enter = [("CONDA_PREFIX_1", str(prefix)), ("CONDA_PREFIX", str(other)), ("CONDA_SHLVL", "2")]
    leave = [("CONDA_PREFIX", str(prefix)), ("CONDA_SHLVL", "1")]
    lines = [
        *("DUMP", shell.source(prefix), *(shell.export(*pair) for pair in enter), "DUMP", "deactivate", "DUMP"),
        *(*(shell.export(*pair) for pair in leave), shell.unset("CONDA_PREFIX_1"), "deactivate", "DUMP"),
    ]
    outcome = session.run(shell, lines)
    before, within, still_within, after = outcome.environments
    assert outcome.err == "envpack: nothing to deactivate: the active environment was not activated by envpack\n"
    assert still_within == within
    assert after == before


def test_condas_own_functions_stay(session: Session, tmp_path: Path) -> None:
    prefix = make_tree(tmp_path / "env")
    shell = installed("bash")
    lines = ["conda() { echo conda; }", shell.source(prefix), "conda", "deactivate", "conda"]
    assert session.run(shell, lines).out == "conda\nconda\n"


def test_a_venv_below_can_still_be_left(shell: Shell, session: Session, tmp_path: Path) -> None:
    """Both define `deactivate`; after another activation, and below a deployment, the venv's own is restored."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    prompt = ["set prompt = '% '"] if shell.suffix == ".csh" else []
    venv = shell.source(tmp_path / "venv")
    first, second = (shell.source(make_tree(tmp_path / name)) for name in ("first", "second"))
    within = [first, first, second, "deactivate", "deactivate", "DUMP"]
    outcome = session.run(shell, [*prompt, venv, "DUMP", *within, "deactivate", "DUMP"])
    without = session.run(shell, [*prompt, venv, "DUMP", "DUMP", "deactivate", "DUMP"])
    assert outcome.environments[0]["VIRTUAL_ENV"] == str(tmp_path / "venv")
    assert outcome.environments == without.environments


@pytest.mark.parametrize("name", POSIX)
def test_a_child_shell_can_leave(session: Session, tmp_path: Path, name: str) -> None:
    shell = installed(name)
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"})
    add_echo(prefix, "deactivate.d/a", "-a")
    child = tmp_path / "child"
    child.write_text(f". {prefix}/bin/deactivate\n{session.dumper}\n")
    run_child = " ".join([*shell.argv, str(child)])
    outcome = session.run(shell, ["DUMP", shell.source(prefix), run_child], {**BARE, "FIRST": "0"})
    everything_back(outcome)
    assert outcome.out == "-a\n"


def test_deactivate_can_be_sourced(posix: Shell, session: Session, tmp_path: Path) -> None:
    """Users of conda-pack do this; when nothing is active it does nothing, as in conda."""
    prefix = make_tree(tmp_path / "env")
    leave = f". {prefix}/bin/deactivate"
    everything_back(session.run(posix, ["set -eu", "DUMP", leave, posix.source(prefix), leave, leave, "DUMP"]))
