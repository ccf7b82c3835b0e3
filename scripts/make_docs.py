#!/usr/bin/env python3
"""Write the parts of docs/ that are made from the source: the table of exit codes, and every command's help.

python scripts/make_docs.py            writes docs/exit-codes.md and docs/commands.md
python scripts/make_docs.py --check    exit status 1 when the table is not what the source says
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from envpack.cli.app import COMMANDS
from envpack.runtime import errors

DOCS = Path(__file__).resolve().parent.parent / "docs"

EXIT_CODES = """\
# Exit codes

Every way `envpack` can end. The table is made from the error classes in `src/envpack/runtime/errors.py` by
`scripts/make_docs.py`; the runtime inside a bundle uses the same codes.

{table}

With `--json`, the object on stdout carries the same: `error.code`, `error.type` (the class), `error.message`,
`error.hint` and `error.details`. `envpack schema COMMAND` prints its JSON Schema.

A reader that goes away (`envpack inspect b.tar.gz | head -1`) is no error.
"""

COMMANDS_PAGE = """\
# Commands

Made from `envpack COMMAND --help` by `scripts/make_docs.py`.

Results go to stdout, everything else to stderr. `--json` prints exactly one object on stdout, also on failure:

```json
{{"schema": "envpack.<command>/1", "ok": true, "result": {{}}, "error": null}}
```

Progress is drawn only where stderr is a terminal; a log gets one plain line a step. `NO_COLOR` and `FORCE_COLOR`
are honoured, `SOURCE_DATE_EPOCH` sets dates, and nothing ever asks a question. `envpack --install-completion` sets
up completion for your shell.

{sections}
"""


def exit_codes() -> str:
    """The page docs/exit-codes.md."""
    rows = [("0", "", "done")]
    classes: list[type[errors.EnvpackError]] = [errors.EnvpackError, *subclasses(errors.EnvpackError)]
    for code in sorted({cls.code for cls in classes}):
        names = [cls.__name__ for cls in classes if cls.code == code]
        when = "; ".join(dict.fromkeys(cls.when for cls in classes if cls.code == code))
        rows.append((str(code), ", ".join(names), when))
    rows.append(
        (str(errors.INTERRUPTED), "", "interrupted by Ctrl-C, SIGTERM or SIGHUP: nothing half-done is left")
    )
    lines = ["| code | error | when |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return EXIT_CODES.format(table="\n".join(lines))


def subclasses(cls: type[errors.EnvpackError]) -> list[type[errors.EnvpackError]]:
    """The classes of runtime/errors.py below ``cls``, in the order they are written."""
    below = [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    return [found for sub in below for found in (sub, *subclasses(sub))]


def commands() -> str:
    """The page docs/commands.md."""
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


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        same = (DOCS / "exit-codes.md").read_text(encoding="utf-8") == exit_codes()
        if not same:
            print("docs/exit-codes.md is not what the source says: run scripts/make_docs.py", file=sys.stderr)
        return 0 if same else 1
    (DOCS / "exit-codes.md").write_text(exit_codes(), encoding="utf-8")
    (DOCS / "commands.md").write_text(commands(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
