"""The packages of an environment that compile for the GPU at run time, and the compilers they use."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from envpack.prefix.model import Entry, PrefixContents
from envpack.prefix.needs.rules import Row, named, table
from envpack.runtime.format.manifest import Package
from envpack.runtime.format.needs import Compiler
from envpack.runtime.fs.io import open_regular

_WINDOW = 1 << 20
_RELEASE = re.compile(rb"Cuda compilation tools, release (\d+\.\d+)")
"""Part of the output of ``ptxas --version``; the program file contains it unchanged."""
_LONGEST = 64


def compilers(contents: PrefixContents, packages: Collection[Package]) -> Iterator[Compiler]:
    """Yield the packages that compile for the GPU, by ``jit`` of rules.json, with the version of their compiler.

    The version is "" where a package brings no compiler. A package that needs a compiler which is missing compiles
    nothing for a GPU, and is left out.
    """
    for package in packages:
        for row in table("jit"):
            if named(package.name, row["packages"]) and fnmatchcase(package.build, row.get("build", "*")):
                if _compiles(row, contents, packages):
                    yield _compiler(row, contents, packages, package)
                break


def _compiles(row: Row, contents: PrefixContents, packages: Collection[Package]) -> bool:
    if "unless" in row and any(named(package.name, [row["unless"]]) for package in packages):
        return False
    return "needs" not in row or any(
        fnmatchcase(entry.path.rpartition("/")[2], row["needs"]) for entry in _entries(contents)
    )


def _compiler(row: Row, contents: PrefixContents, packages: Collection[Package], package: Package) -> Compiler:
    ptx = bool(row.get("ptx")) and not any(named(other.name, row.get("links", ())) for other in packages)
    source = f"{package.segment}: {row['why']}"
    for entry in _entries(contents):
        if entry.type == "file" and any(fnmatchcase("/" + entry.path, glob) for glob in row.get("compiler", ())):
            version = _version(os.path.join(contents.prefix, entry.place or entry.path))
            if version:
                return Compiler(package.name, f"{source}, by {entry.path}", version, ptx)
    return Compiler(package.name, source, ptx=ptx)


def _entries(contents: PrefixContents) -> Iterator[Entry]:
    for group in contents.groups:
        yield from group.entries


def _version(path: str) -> str:
    """Return the CUDA version of a ptxas, read from its bytes; "" when they hold none."""
    try:
        with open(path, "rb", opener=open_regular) as file:
            kept = b""
            while window := file.read(_WINDOW):
                if match := _RELEASE.search(kept + window):
                    return match[1].decode("ascii")
                kept = window[-_LONGEST:]
    except OSError:
        pass
    return ""
