"""The files that a pip section includes: requirements, and constraints with their options and hashes."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import parse_wheel_filename

from envpack.lock.uvtool import expanded
from envpack.runtime.fs.io import read_file
from envpack.spec.model import EnvSpec
from envpack.spec.pip_lines import PipLine, logical_lines, parse_line, parse_lines

_FILES = frozenset({"--requirement", "--constraint"})
_SOURCES = frozenset({"--index-url", "--extra-index-url", "--find-links", "--no-index", "--trusted-host"})


def section_lines(spec: EnvSpec) -> list[PipLine]:
    """Return the lines of the pip section, with those of requirements files in the place of their ``-r``.

    A requirement means the same in both. Paths are as pip has them: of other files and of links they start at the
    file, of packages at the folder of the spec, where uv runs. URLs of requirements files, and files that do not
    exist where a lock is built, stay as they are, and constraints files are for uv to read.

    Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/
    """
    return list(_in_place(parse_lines(spec.pip), spec.directory, Path(), set()))


def _in_place(lines: Iterable[PipLine], folder: Path, parent: Path, seen: set[Path]) -> Iterator[PipLine]:
    """Yield lines of a file in ``parent``, which is relative to ``folder``, and those of the files in them."""
    for line in (_relative_to(folder, line, parent) for line in lines):
        file = folder / line.value
        if line.option != "--requirement" or not file.is_file():
            yield line
        elif file.resolve() not in seen:
            seen.add(file.resolve())
            yield from _in_place(_lines(file), folder, Path(line.value).parent, seen)


def _relative_to(folder: Path, line: PipLine, parent: Path) -> PipLine:
    if line.option in _FILES and "://" not in line.value:
        return replace(line, value=str(parent / expanded(line.value)))
    return _from_file(line, folder / parent)


def with_included_options(lines: Iterable[PipLine], folder: Path) -> list[PipLine]:
    """Return the lines, followed by the options for indexes and links in the files that they include.

    uv reads constraints files when it resolves. An installation of a lock knows only the exact files, and needs
    the options for what builds from source require. Files that do not exist where a lock is built are left out.

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
        if line.option not in _FILES or file.resolve() in seen or not file.is_file():
            continue
        seen.add(file.resolve())
        content = list(_lines(file))
        yield from ((inner, file.parent) for inner in content)
        yield from _included(content, file.parent, seen)


def _lines(file: Path) -> Iterator[PipLine]:
    """Yield the lines of a file."""
    content = read_file(file)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig", "replace").replace("\r\n", "\n")
    for _, line in logical_lines([text]):
        yield from _parsed(line)


def _parsed(text: str) -> tuple[PipLine, ...]:
    """Return what a line says, and a wrong one as it is: uv accepts more, or explains it."""
    try:
        return parse_line(text)
    except ValueError:
        return (PipLine(text, requirement=text),)


def _from_file(line: PipLine, folder: Path) -> PipLine:
    """Return a line with its links relative to the file, if they exist there, as pip has it."""
    found = folder / line.value
    return replace(line, value=str(found.absolute())) if line.option == "--find-links" and found.exists() else line
