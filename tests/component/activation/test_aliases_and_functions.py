"""Activation in shells whose users have given other meanings to the names of builtins."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.shells import Session, add_script, everything_back, installed, make_tree

ALIASED = [
    ".",
    ":",
    "[",
    "alias",
    "cd",
    "command",
    "echo",
    "eval",
    "exit",
    "export",
    "grep",
    "hash",
    "local",
    "ls",
    "printf",
    "read",
    "readlink",
    "return",
    "rm",
    "set",
    "shift",
    "source",
    "test",
    "type",
    "typeset",
    "unalias",
    "unset",
    "unsetopt",
    "setopt",
    "shopt",
]
NAMES = [
    "cd",
    "command",
    "echo",
    "eval",
    "exit",
    "export",
    "grep",
    "hash",
    "ls",
    "printf",
    "read",
    "rm",
    "set",
    "shift",
    "test",
    "typeset",
    "unset",
]
"""In bash and zsh functions go before all builtins."""
REGULAR = ["cd", "command", "grep", "ls", "rm", "test"]
"""Functions of the others go before regular builtins; what they name like special ones is never called."""
CSH = ["cat", "cd", "cp", "env", "grep", "ls", "mktemp", "mv", "printenv", "printf", "readlink", "rm", "sed", "sh"]
"""Programs, and builtins that are not needed; tcsh always takes a quoted name for a program's."""
FISH = [
    "cd",
    "contains",
    "echo",
    "functions",
    "grep",
    "ls",
    "math",
    "printf",
    "realpath",
    "rm",
    "sort",
    "source",
    "type",
]


def aliases(pattern: str, *without: str) -> list[str]:
    return [pattern.format(name) for name in ALIASED if name not in without]


SETUPS = {
    "bash": {
        "aliases": ["shopt -s expand_aliases", *aliases("alias -- {0}='echo ALIAS {0} '", "alias")],
        "functions": [f"function {name} {{ builtin echo FUNCTION {name}; }}" for name in NAMES],
        "common": ["shopt -s expand_aliases; alias rm='rm -i' .='pwd' exit='echo no' command='command '"],
        "posix": ["set -o posix", "command() { echo COMMAND; }", "alias hash='echo hash'"],
        "keyword": ["set -k"],
    },
    "zsh": {
        "aliases": aliases("alias -- '{0}=echo ALIAS {0} '", "alias"),
        "global aliases": ["alias -g L='| less' G='| grep' sh='bash'"],
        "functions": [f"function {name} {{ builtin echo FUNCTION {name}; }}" for name in (*NAMES, "setopt")],
        "options": ["setopt cshjunkiequotes errreturn forcefloat"],
    },
    "fish": {"functions": [f"function {name}; builtin echo FUNCTION {name}; end" for name in FISH]},
    "tcsh": {"aliases": [f"alias {name} 'echo ALIAS {name}'" for name in CSH]},
    "dash": {"aliases": aliases("alias {0}='echo ALIAS {0} '", "alias", "[")},
}
for shell in ("ksh", "mksh", "busybox"):
    SETUPS[shell] = dict(SETUPS["dash"])
for shell in ("dash", "ksh", "mksh", "busybox"):
    SETUPS[shell]["functions"] = [f"{name}() {{ echo FUNCTION {name}; }}" for name in REGULAR]
SETUPS["ksh"]["functions"].remove("command() { echo FUNCTION command; }")  # ksh93 loses the builtin then
LISTINGS = {
    "bash": "\\builtin typeset -f; \\builtin alias; \\builtin set +o",
    "zsh": "\\builtin typeset -f; \\builtin alias; \\builtin setopt",
    "dash": "\\alias; \\set +o",
    "busybox": "\\alias; \\set +o",
    "ksh": "\\typeset -f; \\alias; \\set +o",
    "mksh": "\\typeset -f; \\alias; \\set +o",
    "fish": "builtin functions",
    "tcsh": "alias",
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in SETUPS.items() for kind in kinds])
def test_aliases_and_functions_are_not_called_and_stay(
    session: Session, tmp_path: Path, name: str, kind: str
) -> None:
    shell = installed(name)
    prefix = make_tree(tmp_path / "env", {"FIRST": "1"})
    for script in ("activate.d", "deactivate.d"):
        add_script(prefix, f"{script}/a", *[f"{session.dumper}"] * 3)
    verb = {"": "\\.", ".fish": "builtin source", ".csh": "source"}[shell.suffix]
    enter = f"{verb} {shell.quote(f'{prefix}/bin/activate{shell.suffix}')}"
    mark = "/usr/bin/env printf MARK"
    listing = [mark, LISTINGS[name], mark]
    lines = [*SETUPS[name][kind], "DUMP", *listing, enter, "DUMP", enter, "deactivate", *listing, "DUMP"]
    outcome = session.run(shell, lines)
    everything_back(outcome)
    _, before, between, after, _ = outcome.out.split("MARK")
    assert between.strip() == ""
    assert sorted(after.splitlines()) == sorted(before.splitlines())  # dash lists its aliases in any order
    assert outcome.environments[1]["FIRST"] == "1"
    assert len(outcome.environments) == 7  # the packages' scripts ran each time
