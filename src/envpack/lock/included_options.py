"""Options in the requirements files that a pip section includes: where builds from source look for packages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from envpack.runtime.fs.io import read_file
from envpack.spec.pip_lines import PipLine, parse_line

_SOURCES = frozenset({"--index-url", "--extra-index-url", "--find-links", "--no-index", "--trusted-host"})


def with_included_options(lines: Iterable[PipLine], folder: Path) -> list[PipLine]:
    """Return the lines, followed by the options for indexes and links in the files that they include.

    uv reads these files when it resolves. An installation of a lock knows only the exact files, and needs the
    options for what builds from source require. Files that do not exist where a lock is built are left out.

    Args:
        lines: The lines of a pip section.
        folder: The folder that their relative paths start at.
    """
    lines = list(lines)
    return [*lines, *_included(lines, folder, set())]


def _included(lines: Iterable[PipLine], folder: Path, seen: set[Path]) -> Iterator[PipLine]:
    for line in lines:
        file = folder / line.value
        if line.option not in ("--requirement", "--constraint") or file in seen or not file.is_file():
            continue
        seen.add(file)
        content = list(_lines(file))
        for inner in content:
            if inner.option in _SOURCES:
                yield _from_file(inner, file.parent)
        yield from _included(content, file.parent, seen)


def _lines(file: Path) -> Iterator[PipLine]:
    text = re.sub(r"\\\n", "", read_file(file).decode("utf-8", "replace"))
    for line in map(_parsed, text.splitlines()):
        if line is not None:
            yield line


def _parsed(text: str) -> PipLine | None:
    try:
        return parse_line(text)
    except ValueError:
        return None  # uv has accepted the file


def _from_file(line: PipLine, folder: Path) -> PipLine:
    """Return a line with its links relative to the file, if they exist there, as pip has it."""
    found = folder / line.value
    return replace(line, value=str(found.absolute())) if line.option == "--find-links" and found.exists() else line
