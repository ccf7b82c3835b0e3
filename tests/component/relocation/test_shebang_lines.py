"""The lines that take a first line's place: the bytes of each form, how they are found again, what has none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources

import pytest

from envpack.prefix.relocate.shebang import direct_line, first_line, may_need_activation, published_lines
from envpack.runtime.errors import FormatError
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.relocation.relocation import Relocation, splices
from envpack.runtime.relocation.shebang import (
    SHEBANG_MAX,
    THROUGH_ENV,
    Shebang,
    forms,
    needs_activation,
    shebang_line,
)
from envpack.runtime.relocation.splice import inverse, splice
from support.paths_tables import table_to_json

PREFIX = b"/opt/my env"
GUARD = (
    b"case $-,${_envpack-} in *i*,*) ;; *,$$) unset _envpack; _envpack=$$ ;; "
    b'*) [ "${BASH_SOURCE-$0}" != "$0" ] || { _envpack=$$; export _envpack; exec '
)
QUIET = b" >/dev/null 2>&1; exec "
ARGS = b' "$0" "$@"'


@pytest.mark.parametrize(
    ("first", "lines"),
    [
        (b"python -s", b"'''exec' \"/opt/my env/bin/python\" -s \"$0\" \"$@\"\n' '''"),
        (b"pypy3 -s -E", b"'''exec' \"/opt/my env/bin/pypy3\" -s -E \"$0\" \"$@\"\n' '''"),
        (b"perl", b'eval \'exec "/opt/my env/bin/perl" -x "$0" "$@"\'\n  if 0;\n#!perl'),
        (
            b"perl5.32 -w -T",
            b'eval \'exec "/opt/my env/bin/perl5.32" -x "-w -T" "$0" "$@"\'\n  if 0;\n#!perl -w -T',
        ),
        (b"ruby -w", b'"exec" "/opt/my env/bin/ruby" "-x" "-w" "$0" "$@"\n#!ruby -w'),
        (b"sh", GUARD + b'"/opt/my env/bin/sh"' + ARGS + b"; } ;; esac"),
        (b"bash -e", GUARD + b'"/opt/my env/bin/bash" "-e"' + ARGS + b"; } ;; esac"),
        (b"ksh93", GUARD + b'"/opt/my env/bin/ksh93"' + ARGS + b"; } ;; esac"),
        (b"fish", b'test -n "$FISH_VERSION" || eval \'exec "/opt/my env/bin/fish" "$0" "$@"\''),
        (
            b"tcsh -f",
            b'/bin/sh -c \'test "$1" = 1\' sh "$?shell" || eval \'exec "/opt/my env/bin/tcsh" "-f" "$0" "$@"\'',
        ),
        (b"tclsh8.6", b'# \\\nexec "/opt/my env/bin/tclsh8.6"' + ARGS),
        (b"luajit", b"--" + QUIET + b'"/opt/my env/bin/luajit"' + ARGS),
        (b"node", b"//" + QUIET + b'"/opt/my env/bin/node"' + ARGS),
        (b"Rscript --vanilla", b"\f#" + QUIET + b'"/opt/my env/bin/Rscript" "--vanilla"' + ARGS),
        (b"sed -f", b"\f#" + QUIET + b'"/opt/my env/bin/sed" "-f"' + ARGS),
        (b"gawk -f", b"BEGIN{}#" + QUIET + b'"/opt/my env/bin/gawk" "-f"' + ARGS),
        (b"guile -s", b'exec "/opt/my env/bin/guile" "-s"' + ARGS),
    ],
    ids=lambda value: value.split()[0].decode() if value[:1].isalpha() else "",
)
def test_each_language_has_lines_of_its_own_that_are_found_again(first: bytes, lines: bytes) -> None:
    found = direct_line(b"#!" + PREFIX + b"/bin/" + first + b"\nbody\n", [PREFIX])
    assert found is not None
    line = shebang_line(PREFIX, found.shebang)
    assert line == b"#!/bin/sh\n" + lines
    assert not needs_activation(PREFIX, found.shebang)
    again = first_line(line + b"\nbody\n", [PREFIX])
    assert again is not None and again == (found.shebang, len(line))
    published = list(published_lines(line + b"\nbody\n", PREFIX, b"/PLACEHOLDER"))
    assert (len(line), b"#!/PLACEHOLDER/bin/" + first) in published


@pytest.mark.parametrize("form", [form for form in forms() if form != "python-comment"])
def test_sh_reads_every_form_to_the_exec_and_no_further(form: str) -> None:
    """Whichever shell sh is, it runs the program and no line of the script."""
    sample = {"shell": b"sh", "csh": b"csh", "hash": b"sed", "javascript": b"node", "tcl": b"tclsh"}
    name = sample.get(form, form.encode())
    found = direct_line(b"#!/bin/" + name + b"\n(((\n", [b""]) or direct_line(b"#!/x/bin/" + name + b"\n", [b"/x"])
    assert found is not None and (found.shebang.form or "python") == form
    line = shebang_line(b"/nonexistent dir", found.shebang).replace(
        b'"/nonexistent dir/bin/' + name + b'"', b"/bin/echo ran"
    )
    shells = [
        ["/bin/sh"],
        *([path] for each in ("bash", "dash", "ksh", "mksh", "yash") if (path := shutil.which(each))),
    ]
    for shell in shells:
        done = subprocess.run(
            [*shell, "-c", line.decode() + "\n(((\n", "zero", "a b"], capture_output=True, text=True
        )
        assert done.stderr == "" and re.fullmatch(r"ran (-x )?zero a b\n", done.stdout), (shell, done)


@pytest.mark.parametrize(
    ("body", "form", "coding"),
    [
        (b"\nimport x\n'''no docstring'''\n", "", ""),
        (b'\n"""Doc."""\n', "python-comment", ""),
        (b"\n# licence\n\n\t# more\nr'doc'\n", "python-comment", ""),
        (b"\nb'no docstring'\n", "", ""),
        (b"\n# -*- coding: utf-8 -*-\nimport x\n", "", ""),
        (b"\n# vim: set fileencoding=latin-1 :\nimport x\n", "python-comment", "latin-1"),
        (b"\nimport x\n# coding: latin-1\n", "", ""),
        (b"", "", ""),
    ],
)
def test_python_s_docstring_and_encoding_stay_its_own(body: bytes, form: str, coding: str) -> None:
    found = direct_line(b"#!/opt/my env/bin/python" + body, [PREFIX])
    assert found is not None and (found.shebang.form, found.shebang.coding) == (form, coding)
    if form:
        line = shebang_line(PREFIX, found.shebang)
        assert line == b'#!/bin/sh\n\f# coding: %b >/dev/null 2>&1; exec "/opt/my env/bin/python" "$0" "$@"' % (
            coding.encode() or b"utf-8"
        )
        compile(line + body, "script", "exec")
        again = first_line(line + body, [PREFIX])
        assert again is not None and (again.shebang.lead, again.shebang.rest) == (b"#!", b"/bin/python")


@pytest.mark.parametrize(
    ("line", "rest", "words"),
    [
        (b"#!/usr/bin/env -S /e/bin/python -s -E\n", b"/bin/python -s -E", b" -s -E "),
        (b"#! /usr/bin/env  -S/e/bin/perl -w -T\n", b"/bin/perl -w -T", b' "-w" "-T" '),
        (b"#!/usr/bin/env /e/bin/bash\n", b"/bin/bash", b" "),
    ],
)
def test_env_with_a_path_is_a_first_line_whose_words_are_taken_apart(
    line: bytes, rest: bytes, words: bytes
) -> None:
    found = direct_line(line + b"body", [b"/e"])
    assert found is not None and found.shebang.rest == rest
    assert shebang_line(b"/e", found.shebang) + b"\n" == line
    assert b"/some where" + rest.split()[0] + b'"' + (b" -x" if b"perl" in rest else b"") + words + b'"$0"' in (
        shebang_line(b"/some where", found.shebang)
    )


@pytest.mark.parametrize(
    "line",
    [
        b"#!/usr/bin/env -S 'A B' /e/bin/python\n",
        b"#!/usr/bin/env -S /e/bin/python ${X}\n",
        b"#!/usr/bin/env -S X=1 /e/bin/python\n",
        b"#!/usr/bin/env /e/bin/python -s\n",
    ],
)
def test_what_env_makes_of_its_words_is_not_guessed(line: bytes) -> None:
    assert direct_line(line, [b"/e"]) is None


@pytest.mark.parametrize("first", [b"php -n", b"tool", b"perl -e'x'", b"python -X$X", b"guile \\"])
def test_what_no_lines_are_known_for_goes_through_env_and_is_reported(first: bytes) -> None:
    found = direct_line(b"#!/e/bin/" + first + b"\n", [b"/e"])
    assert found is not None
    long = b"/" + b"l" * SHEBANG_MAX
    assert shebang_line(b"/e", found.shebang) == b"#!/e/bin/" + first
    assert shebang_line(long, found.shebang).startswith(b"#!/usr/bin/env ")
    assert needs_activation(long, found.shebang) and not needs_activation(b"/e", found.shebang)
    assert may_need_activation(Relocation(b"/e", shebang=found.shebang), [b"#!"])


def test_a_short_place_with_blanks_needs_no_activation_whatever_the_interpreter() -> None:
    assert shebang_line(b"/a b", Shebang(b"#!", b"/bin/php -n")) == b'#!/usr/bin/env -S "/a b/bin/php" "-n"'
    again = first_line(b'#!/usr/bin/env -S "/a b/bin/php" "-n"\n', [b"/a b"])
    assert again is not None and again.shebang == Shebang(b"#!", b"/bin/php -n")


@pytest.mark.parametrize("length", range(SHEBANG_MAX - 3, SHEBANG_MAX + 4))
@pytest.mark.parametrize("rest", [b"/bin/perl -w", b"/bin/python", b"/bin/tool"])
def test_the_limit_is_exact_and_every_line_is_restored(length: int, rest: bytes) -> None:
    prefix = b"/" + b"p" * (length - len(b"#!/" + rest))
    found = direct_line(b"#!/P" + rest + b"\nbody", [b"/P"])
    assert found is not None
    forward = splices(Relocation(b"/P", shebang=found.shebang), prefix)
    result = splice(b"#!/P" + rest + b"\nbody", forward)
    assert result.startswith(b"#!" + prefix) == (length <= SHEBANG_MAX)
    assert splice(result, inverse(forward)) == b"#!/P" + rest + b"\nbody"


def test_the_table_keeps_forms_and_refuses_those_it_does_not_know() -> None:
    lines = [
        Shebang(b"#!", b"/bin/python"),
        Shebang(b"#! ", b"/bin/perl -w", "perl"),
        Shebang(b"#!", b"/bin/python", "python-comment", "latin-1"),
        Shebang(b"#!", b"/bin/python $", THROUGH_ENV),
    ]
    records = tuple(
        PathRecord(f"bin/{index}", "file", size=999, sha256="0" * 64, relocation=Relocation(b"/P", shebang=line))
        for index, line in enumerate(lines)
    )
    data = table_to_json(PathsTable({"s": records}))
    assert [record.relocation.shebang for record in table_from_json(data)] == lines
    for wrong in (b'"cobol"', b'"perl","","x"', b'"perl","\\u00e9"'):
        with pytest.raises(FormatError):
            table_from_json(re.sub(rb'"perl"(?=\s*\])', lambda _, wrong=wrong: wrong, data))


def test_every_rule_has_a_source() -> None:
    rows = json.loads(resources.files("envpack.runtime.relocation").joinpath("shebang_forms.json").read_text())[
        "forms"
    ]
    assert all(len(row["source"]) > 10 and row["lines"].startswith("#!/bin/sh\n") for row in rows)
    assert len({row["form"] for row in rows}) == len(rows) == 13
