#!/usr/bin/env python3
"""Write what is made from the source: exit codes, each command's help, the source tree, the host checks.

python scripts/make_docs.py            writes docs/exit-codes.md and docs/commands.md, the tree in docs/design.md,
                                       the tables of host checks in docs/host-requirements.md and docs/spec.md, of
                                       metrics in docs/monitoring.md, and the host checks' part of the JSON schemas
python scripts/make_docs.py --check    exit status 1 when one of these, docs/commands.md apart, is not up to date
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from envpack.cli.app import COMMANDS
from envpack.runtime import errors
from envpack.runtime.host.checks.registry import CHECKS, FORMS
from envpack.runtime.metrics.families import FAMILIES, PREFIX
from host_schemas import SCHEMAS

DOCS = Path(__file__).resolve().parent.parent / "docs"
SOURCE = DOCS.parent / "src" / "envpack"

EXIT_CODES = """\
# Exit codes

This page lists the exit codes of `envpack`. The runtime inside a bundle uses the same codes. The table is
generated from the error classes in `src/envpack/runtime/errors.py` by `scripts/make_docs.py`.

{table}

With `--json`, the object on stdout contains the error: `error.code`, `error.type` (the class), `error.message`,
`error.hint` and `error.details`. `envpack schema COMMAND` prints the JSON Schema of the object.

It is not an error if the program that reads the output ends early (`envpack inspect b.tar.gz | head -1`).
"""

COMMANDS_PAGE = """\
# Commands

This page lists the commands of `envpack` and their options. It is generated from `envpack COMMAND --help` by
`scripts/make_docs.py`.

Results are printed on stdout, everything else on stderr. `--json` prints exactly one object on stdout, also on
failure:

```json
{{"schema": "envpack.<command>/1", "ok": true, "result": {{}}, "error": null}}
```

A progress bar is shown only if stderr is a terminal; otherwise one line is printed for each step. `NO_COLOR` and
`FORCE_COLOR` are respected, and `SOURCE_DATE_EPOCH` sets dates. `envpack --install-completion` sets up
completion for your shell.

No command asks for confirmation. Only `envpack sign` and `envpack release` ask for the password of a key, if
stdin is a terminal.

{sections}
"""


def exit_codes() -> str:
    """Return the page docs/exit-codes.md."""
    rows = [("0", "", "done")]
    classes: list[type[errors.EnvpackError]] = [errors.EnvpackError, *subclasses(errors.EnvpackError)]
    for code in sorted({cls.code for cls in classes}):
        names = [cls.__name__ for cls in classes if cls.code == code]
        when = "; ".join(dict.fromkeys(cls.when for cls in classes if cls.code == code))
        rows.append((str(code), ", ".join(names), when))
    rows.append(
        (str(errors.INTERRUPTED), "", "interrupted by Ctrl-C, SIGTERM or SIGHUP; nothing incomplete is left")
    )
    lines = ["| code | error | when |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return EXIT_CODES.format(table="\n".join(lines))


def subclasses(cls: type[errors.EnvpackError]) -> list[type[errors.EnvpackError]]:
    """Return the classes of runtime/errors.py below ``cls``, in the order of the source."""
    below = [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return [found for sub in below for found in (sub, *subclasses(sub))]


def commands() -> str:
    """Return the page docs/commands.md."""
    sections = []
    for name in COMMANDS:
        shown = subprocess.run(
            [sys.executable, "-m", "envpack", name, "--help"],
            env={**os.environ, "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        sections.append(f"## envpack {name}\n\n```text\n{shown.rstrip()}\n```")
    return COMMANDS_PAGE.format(sections="\n\n".join(sections))


def design() -> str:
    """Return the page docs/design.md with the tree of the source as it is."""
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    return re.sub(r"(?<=```text\n)src/envpack/\n.*?(?=```)", lambda match: tree(), page, count=1, flags=re.DOTALL)


def tree() -> str:
    """Return each folder of the source with the first sentence of its docstring and the names of its modules."""
    lines = ["src/envpack/"]
    for init in sorted(SOURCE.rglob("__init__.py"), key=lambda path: path.parts):
        folder = init.parent
        if folder == SOURCE:
            continue
        indent = "  " * len(folder.relative_to(SOURCE).parts)
        docstring = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
        sentence = " ".join(docstring.replace("``", "").split("\n\n")[0].split())
        modules = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__"))
        lines += textwrap.wrap(
            f"{folder.name}/  {sentence}", 110, initial_indent=indent, subsequent_indent=indent + "    "
        )
        inner = indent + "    "
        if modules:
            lines += textwrap.wrap(
                f"[{' '.join(modules)}]",
                110,
                initial_indent=inner,
                subsequent_indent=inner + " ",
                break_on_hyphens=False,
            )
    return "\n".join(lines) + "\n"


def host_requirements() -> str:
    """Return the page docs/host-requirements.md with a row for each host check; those compared alike share one."""
    rows = [
        (", ".join(f"`{check.name}`" for check in checks), compares)
        for compares, checks in groupby(CHECKS, key=lambda check: check.compares)
    ]
    return with_rows("host-requirements.md", ("requirement", "what is compared"), rows)


def spec() -> str:
    """Return the page docs/spec.md with a row for each requirement that a spec can state."""
    rows = []
    for name, form in FORMS.items():
        example = form.example if form.example[-1].isalpha() or form.example.isdecimal() else f'"{form.example}"'
        rows.append((f"`{name}`", f"`{example}`", form.meaning))
    return with_rows("spec.md", ("key", "example", "meaning"), rows)


def monitoring() -> str:
    """Return the page docs/monitoring.md with a row for each family of metrics."""
    rows = [
        (f"`{PREFIX}{family.name}`", family.type, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for family in FAMILIES
    ]
    return with_rows("monitoring.md", ("metric", "type", "labels", "meaning"), rows)


def with_rows(page: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a page of docs/ with the rows of one table replaced.

    Args:
        page: The name of the page.
        header: The header of the table.
        rows: The new rows.
    """
    head = f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n"
    text = (DOCS / page).read_text(encoding="utf-8")
    before, found, rest = text.partition(head)
    assert found, f"docs/{page} has no table {head!r}"
    after = re.sub(r"\A(\|.*\n)*", "", rest)
    return before + head + "".join(f"| {' | '.join(row)} |\n" for row in rows) + after


MADE: dict[Path, Callable[[], str]] = {
    DOCS / "exit-codes.md": exit_codes,
    DOCS / "design.md": design,
    DOCS / "host-requirements.md": host_requirements,
    DOCS / "spec.md": spec,
    DOCS / "monitoring.md": monitoring,
    **{SOURCE / "schemas" / f"{name}-1.json": made for name, made in SCHEMAS.items()},
}


def main() -> int:
    """Write the pages, or check them; return the exit status."""
    if sys.argv[1:] == ["--check"]:
        stale = [path for path, made in MADE.items() if path.read_text(encoding="utf-8") != made()]
        for path in stale:
            name = path.relative_to(DOCS.parent)
            print(f"{name} is out of date: run scripts/make_docs.py", file=sys.stderr)
        return 1 if stale else 0
    for path, made in {**MADE, DOCS / "commands.md": commands}.items():
        path.write_text(made(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
