"""The requirements files that a pip section includes: their options for indexes, and their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import parse_wheel_filename

from envpack.lock.uvtool import expanded
from envpack.runtime.fs.io import read_file
from envpack.spec.pip_lines import PipLine, logical_lines, parse_line

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
    included = _included(lines, folder, set())
    return [*lines, *(_from_file(line, parent) for line, parent in included if line.option in _SOURCES)]


def stated_hashes(lines: Iterable[PipLine], folder: Path) -> dict[str, set[str]]:
    """Return the hashes that the lines, and the files that they include, state for files of packages.

    Args:
        lines: The lines of a pip section.
        folder: The folder that their relative paths start at.

    Returns:
        ``ALGORITHM:HEX`` by the name of the package, else by the name of its local file, or by its URL.
    """
    lines = list(lines)
    found: dict[str, set[str]] = {}
    for line in (*lines, *(line for line, _ in _included(lines, folder, set()))):
        if line.hashes:
            found.setdefault(_package(line), set()).update(line.hashes)
    return found


def _package(line: PipLine) -> str:
    """Return the name of a requirement's package, else the name of its local file, or its URL."""
    location = expanded(line.requirement.split(";")[0].strip().partition("#")[0])
    if line.name:
        return line.name
    file_name = unquote(location.rpartition("/")[2])
    with suppress(ValueError):
        return parse_wheel_filename(file_name)[0]
    return location if "://" in location and not location.startswith("file:") else file_name


def _included(lines: Iterable[PipLine], folder: Path, seen: set[Path]) -> Iterator[tuple[PipLine, Path]]:
    """Yield the lines of all included files, with the folder of their file."""
    for line in lines:
        file = folder / line.value
        if line.option not in ("--requirement", "--constraint") or file in seen or not file.is_file():
            continue
        seen.add(file)
        content = list(_lines(file))
        yield from ((inner, file.parent) for inner in content)
        yield from _included(content, file.parent, seen)


def _lines(file: Path) -> Iterator[PipLine]:
    text = read_file(file).decode("utf-8", "replace").replace("\r\n", "\n")
    for _, line in logical_lines([text]):
        with suppress(ValueError):  # uv has accepted the file
            yield from parse_line(line)


def _from_file(line: PipLine, folder: Path) -> PipLine:
    """Return a line with its links relative to the file, if they exist there, as pip has it."""
    found = folder / line.value
    return replace(line, value=str(found.absolute())) if line.option == "--find-links" and found.exists() else line
