"""The packages of an environment that compile for the GPU at run time, and the compilers they use."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from envpack.prefix.model import Entry, PrefixContents
from envpack.prefix.needs.rules import Row, named, table
from envpack.runtime.format.manifest import Package
from envpack.runtime.format.needs import Compiler
from envpack.runtime.fs.io import open_regular

_WINDOW = 1 << 20
_RELEASE = re.compile(rb"Cuda compilation tools, release (\d+\.\d+)")
"""Part of the output of ``ptxas --version``; the program file contains it unchanged."""
_TARGETS = {kind: re.compile(kind + rb"(\d{2,3}[af]?)\0") for kind in (b"compute_", b"sm_")}
"""The names of the GPUs that a ptxas knows (m); those of ``sm_`` also name some that it knows no more."""
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
                    yield from _compilers(row, contents, packages, package)
                break


def _compiles(row: Row, contents: PrefixContents, packages: Collection[Package]) -> bool:
    if "unless" in row and any(named(package.name, [row["unless"]]) for package in packages):
        return False
    return "needs" not in row or any(
        fnmatchcase(entry.path.rpartition("/")[2], row["needs"]) for entry in _entries(contents)
    )


def _compilers(
    row: Row, contents: PrefixContents, packages: Collection[Package], package: Package
) -> Iterator[Compiler]:
    ptx = bool(row.get("ptx")) and not any(named(other.name, row.get("links", ())) for other in packages)
    c_compiler = bool(row.get("c_compiler")) and not _has_c_compiler(contents)
    found = Compiler(package.name, f"{package.segment}: {row['why']}", ptx=ptx, c_compiler=c_compiler)
    programs = [
        replace(found, source=f"{found.source}, by {entry.path}", cuda=cuda, targets=targets, least=least)
        for glob, least in row.get("compiler", {}).items()
        for entry in _entries(contents)
        if entry.type == "file" and fnmatchcase("/" + entry.path, glob)
        for cuda, targets in [_examine(os.path.join(contents.prefix, entry.place or entry.path))]
        if cuda
    ]
    yield from programs or [found]


def _has_c_compiler(contents: PrefixContents) -> bool:
    globs = table("c_compilers")["files"]
    return any(fnmatchcase(entry.path, glob) for entry in _entries(contents) for glob in globs)


def _entries(contents: PrefixContents) -> Iterator[Entry]:
    for group in contents.groups:
        yield from group.entries


def _examine(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the CUDA version of a ptxas and the GPUs it knows, read from its bytes; "" when they hold none."""
    version, known = "", {kind: set[bytes]() for kind in _TARGETS}
    try:
        with open(path, "rb", opener=open_regular) as file:
            kept = b""
            while window := file.read(_WINDOW):
                data = kept + window
                if not version and (match := _RELEASE.search(data)):
                    version = match[1].decode("ascii")
                for kind, pattern in _TARGETS.items():
                    known[kind].update(pattern.findall(data))
                kept = window[-_LONGEST:]
    except OSError:
        pass
    names = known[b"compute_"] or known[b"sm_"]
    return version, tuple(sorted(name.decode("ascii") for name in names))
