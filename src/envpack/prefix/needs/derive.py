"""An environment's needs of a host, found without running or importing any of its code."""

from __future__ import annotations

import json
import os
import platform
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from envpack.prefix.model import ENVIRONMENT, Entry, PrefixContents
from envpack.prefix.needs.compilers import compilers
from envpack.prefix.needs.decide import decide
from envpack.prefix.needs.elf import MACHINES, machine_of, read_elf
from envpack.prefix.needs.evidence import (
    Finding,
    framework_file,
    from_file,
    from_library,
    from_package,
    from_record,
)
from envpack.prefix.needs.fatbin import targets
from envpack.prefix.needs.host_libraries import host_libraries
from envpack.prefix.needs.libraries import (
    Library,
    cpu_of_libraries,
    cpu_of_record,
    glibc_floor,
    gpu_code,
    is_main,
    not_loaded,
    unknown_markers,
    variants,
    without_variant,
)
from envpack.prefix.needs.rules import table
from envpack.prefix.scan.windowed_file import FileData, WindowedFile
from envpack.runtime.errors import PackError
from envpack.runtime.format.manifest import Package
from envpack.runtime.format.needs import DetectedNeeds, Evidence, HostLibrary
from envpack.runtime.fs.io import open_regular, read_file
from envpack.runtime.report import Reporter

_LEAST_ELF = 64
_SMALL = 1 << 16
"""Bytes up to which a file is read at once."""

_RELEVANT = re.compile(rb"cuda|rocm|__archspec|microarch-level")


def derive_needs(contents: PrefixContents, reporter: Reporter) -> DetectedNeeds:
    """Return the needs that metadata and files show, and warn of evidence that contradicts itself.

    Only the metadata of packages, the files in which frameworks record their build, and the headers of libraries
    are read. Unreadable files are skipped: packing reports them.
    """
    with reporter.step("Detecting host requirements", unit="files") as step:
        packages = {group.package.segment: group.package for group in contents.groups if group.package}
        records = list(_records(contents, packages.values()))
        libraries = list(_libraries(contents))
        alternatives = variants(library.path for library in libraries)
        every_variant = not_loaded(alternatives, None, None)
        findings = [
            *_metadata(packages.values(), records),
            *_framework_files(contents),
            *_linked([library for library in libraries if library.path not in every_variant]),
        ]
        decision = decide(findings)
        left_out = not_loaded(alternatives, decision.cuda, decision.rocm)
        loaded = [library for library in libraries if library.path not in left_out]
        x86 = [cpu_of_record(package, depends) for package, depends, _ in records]
        levels = [level for level in (*x86, cpu_of_libraries(loaded)) if level]
        needs = DetectedNeeds(
            cuda=decision.cuda,
            cuda_all=decision.cuda_all,
            rocm=decision.rocm,
            gpu_code=tuple(gpu_code(libraries, left_out, decision.users, decision.cuda is not None)),
            jit=tuple(compilers(contents, packages.values())) if decision.cuda else (),
            cuda_compat=tuple(_cuda_compat(contents)),
            glibc=glibc_floor(loaded),
            cpu=max(levels, key=lambda level: level.value, default=None),
            disk=sum(entry.size for group in contents.groups for entry in group.entries if entry.type == "file"),
            cpu_builds=decision.cpu_builds,
            libraries=tuple(_host_libraries(contents, loaded, decision.users)),
        )
        step.detail = summary(needs)
    for sentence in (*decision.contradictions, *without_variant(alternatives, decision.cuda)):
        reporter.warn(sentence)
    for sentence in decision.remarks:
        reporter.note(sentence)
    for marker, path in sorted(unknown_markers(loaded).items()):
        reporter.note(
            f"{path} needs {marker} in the host's glibc, which some builds of a glibc version do not have"
        )
    return needs


def summary(needs: DetectedNeeds) -> str:
    """Return the main points in one line: "CUDA 12.6, glibc 2.28"."""
    found = [("CUDA", needs.cuda), ("ROCm", needs.rocm), ("glibc", needs.glibc), ("", needs.cpu)]
    return ", ".join(f"{name} {evidence.value}".strip() for name, evidence in found if evidence) or "nothing"


# --- metadata ---

Record = tuple[Package, list[str], list[str]]
"""A conda package with the texts of its ``depends`` and ``constrains``."""


def _records(contents: PrefixContents, packages: Iterable[Package]) -> Iterator[Record]:
    known = {(p.name, p.version, p.build): p for p in packages if p.kind == "conda"}
    for entry in _entries(contents, ENVIRONMENT):
        if not fnmatchcase(entry.path, "conda-meta/*.json") or entry.content is None:
            continue
        if not _RELEVANT.search(entry.content):
            continue
        document = json.loads(entry.content)  # written by read_prefix
        package = known.get((document.get("name"), document.get("version"), document.get("build")))
        if package is not None:
            yield package, _texts(document.get("depends")), _texts(document.get("constrains"))


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _entries(contents: PrefixContents, id: str) -> Iterator[Entry]:
    for group in contents.groups:
        if group.id == id:
            yield from group.entries


def _metadata(packages: Iterable[Package], records: Iterable[Record]) -> Iterator[Finding]:
    for package in packages:
        yield from from_package(package)
    for package, depends, constrains in records:
        yield from from_record(package, depends, constrains)


def _framework_files(contents: PrefixContents) -> Iterator[Finding]:
    for group in contents.groups:
        for entry in group.entries:
            if entry.type == "file" and entry.path.endswith(".py") and framework_file(entry.path):
                finding = from_file(entry.path, _read(contents, entry).decode("utf-8", "replace"))
                if finding is not None:
                    yield finding


_LIBCUDA = re.compile(r"libcuda\.so\.(\d+(?:\.\d+)*)")


def _cuda_compat(contents: PrefixContents) -> Iterator[Evidence]:
    """Yield the CUDA drivers in the environment: 560.35.05 of libcuda.so.560.35.05, "" for only a libcuda.so.1."""
    found: dict[str, Evidence] = {}
    for group in contents.groups:
        for entry in group.entries:
            if "libcuda.so." not in entry.path:
                continue
            folder, name = posixpath.split(entry.path)
            match = _LIBCUDA.fullmatch(name)
            if match is None or posixpath.basename(folder) == "stubs":
                continue
            version = match[1] if "." in match[1] else ""
            if version or folder not in found:
                found[folder] = Evidence(version, entry.path)
    yield from found.values()


# --- libraries ---


def _host_libraries(
    contents: PrefixContents, loaded: Sequence[Library], users: frozenset[str]
) -> Iterable[HostLibrary]:
    files = (
        entry.path
        for group in contents.groups
        for entry in group.entries
        if ".so" in entry.path and entry.type != "directory" and not _is_elsewhere(entry.path)
    )
    return host_libraries(
        loaded,
        files,
        str(contents.prefix),
        lambda path: path == contents.python or is_main(path, users),
    )


def _is_elsewhere(path: str) -> bool:
    """Return whether a file lies where the loader of a host does not look."""
    return any(fnmatchcase(path, row["path"]) for row in table("not_loaded"))


def _libraries(contents: PrefixContents) -> Iterator[Library]:
    """Yield every ELF file for the environment's machine that a host's loader may load.

    The payloads of fat binaries are not read.
    """
    machine = _machine(contents)
    no_elf = frozenset(table("not_elf")["suffixes"])
    for group in contents.groups:
        for entry in group.entries:
            _, dot, suffix = entry.path.rpartition(".")
            if dot and suffix.lower() in no_elf:
                continue
            if entry.type != "file" or entry.content is not None or entry.size < _LEAST_ELF:
                continue
            if _is_elsewhere(entry.path):
                continue
            library = _library(os.path.join(contents.prefix, entry.place or entry.path), machine)
            if library is not None:
                yield replace(library, path=entry.path, package=group.package)


def _library(path: str, machine: str) -> Library | None:
    try:
        with open(path, "rb", buffering=0, opener=open_regular) as file:
            if machine_of(os.read(file.fileno(), 20)) != machine:
                return None
            size = os.fstat(file.fileno()).st_size
            if size < _SMALL:
                return _examine(path, os.pread(file.fileno(), size, 0))
            # otherwise each read of a header also reads 128 KiB of payload from disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            return _examine(path, WindowedFile.of(file.fileno(), path))
    except (OSError, ValueError, PackError):  # PackError: the file became shorter meanwhile
        return None


def _examine(path: str, data: FileData) -> Library | None:
    elf = read_elf(data)
    if elf is None:
        return None
    return Library(path, elf, targets=targets(data, elf.fatbins) if elf.fatbins else None)


def _machine(contents: PrefixContents) -> str:
    """Return the machine the environment is for: its interpreter's, else its packages', else this host's."""
    try:
        machine = machine_of(read_file(contents.prefix / contents.python, 20))
    except OSError:
        machine = ""
    if machine:
        return machine
    subdirs = {group.package.subdir.partition("-")[2] for group in contents.groups if group.package}
    known = sorted(subdirs & set(MACHINES.values()))
    return known[0] if known else {"x86_64": "64"}.get(platform.machine(), platform.machine())


def _linked(libraries: Iterable[Library]) -> Iterator[Finding]:
    """Yield the evidence in libraries, once for each package and version, with the first library that shows it."""
    found: dict[tuple[str, str, str, str], Finding] = {}
    for library in sorted(libraries, key=lambda library: library.path):
        owner = library.package.segment if library.package else ""
        for finding in from_library(library.path, library.elf, library.package):
            found.setdefault((owner, finding.platform, finding.rule, finding.value), finding)
    yield from found.values()


def _read(contents: PrefixContents, entry: Entry) -> bytes:
    if entry.content is not None:
        return entry.content
    try:
        return read_file(contents.prefix / (entry.place or entry.path), 1 << 20)
    except OSError:
        return b""
