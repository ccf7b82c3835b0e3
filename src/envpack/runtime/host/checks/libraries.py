"""Verdicts on the libraries that the host must have. No I/O."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Iterable, Iterator, Sequence

from envpack.runtime.format.needs import HostLibrary
from envpack.runtime.host.checks.check import Check
from envpack.runtime.host.checks.verdict import FAILED, OK, UNKNOWN, WARNING, Verdict
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.host.requirements import Requirements
from envpack.runtime.host.tables import Row, Rule, table
from envpack.runtime.host.versions import compare, major

_SHOWN = 4
_RULE = Rule(
    "a file is loaded only where all libraries that it is linked to are found, with their symbol versions",
    "https://man7.org/linux/man-pages/man8/ld.so.8.html",
)


def _libraries(wanted: Requirements, facts: HostFacts) -> Iterator[Verdict]:
    needed = wanted.needs.libraries
    if not needed:
        return
    names = [library.value for library in needed if not library.inside]
    if facts.libraries is None:
        says = "the libraries of this host are not known"
        remedy = "write its facts again with this envpack"
        if names:
            yield Verdict("libraries", _listed(names), "unknown", UNKNOWN, says, remedy, needed[0].source, _RULE)
        needed = tuple(library for library in needed if library.inside)
    host = set(facts.libraries or ())
    fine = facts.libraries is not None
    for verdict, main in ((FAILED, True), (WARNING, False)):
        some = [library for library in needed if library.main is main and _problem(library, host)]
        if some:
            fine = False
            yield _verdict(verdict, some, host, wanted)
    if fine:
        found = "all of them" if len(names) > 1 else "it is there"
        yield Verdict("libraries", _listed(names), found, OK, "", "", needed[0].source, _RULE)


def _verdict(verdict: str, libraries: Sequence[HostLibrary], host: set[str], wanted: Requirements) -> Verdict:
    missing = [library for library in libraries if _problem(library, host) == MISSING]
    old = [library for library in libraries if library not in missing]
    says = [_too_old(library, host) for library in old]
    if missing:
        named = [
            f"{' or '.join((library.value, *library.alternatives))} (for {_user(library)})"
            for library in missing[:_SHOWN]
        ]
        rest = [library.value for library in missing[_SHOWN:]]
        verb = "is" if len(missing) == 1 else "are"
        says.append(f"{_listed([*named, *rest], most=12)} {verb} neither in this bundle nor on this host")
    remedies = [*_add(old, wanted, installed=True), *_add(missing, wanted)]
    found = "missing" if not old else "too old" if not missing else "missing or too old"
    names = _listed([library.value for library in libraries])
    evidence = ", ".join(library.source for library in libraries)
    return Verdict("libraries", names, found, verdict, "; ".join(says), "; ".join(remedies), evidence, _RULE)


MISSING, OLD = "missing", "old"


def _problem(library: HostLibrary, host: set[str]) -> str:
    """Return MISSING, OLD, or "" where the library is there with the versions that are needed."""
    if library.inside:
        return OLD
    if library.value not in host:
        return "" if host.intersection(library.alternatives) else MISSING
    return OLD if _missing(library, host) else ""


def _missing(library: HostLibrary, host: set[str]) -> list[str]:
    """Return the versions that are missing in the host's library, of those series that are known."""
    missing = []
    for version in library.versions:
        newest = _newest(host, library.value, version)
        number = version[len(_series(version)) :]
        if newest and compare(number, newest) > 0:
            missing.append(version)
    return missing


def _too_old(library: HostLibrary, host: set[str]) -> str:
    if library.inside:
        return f"{_user(library)} needs {' and '.join(library.versions)}, which {library.inside} does not define"
    missing = _missing(library, host)
    newest = _series(missing[0]) + _newest(host, library.value, missing[0])
    return f"{_user(library)} needs {' and '.join(missing)}, and {library.value} of this host ends with {newest}"


def _user(library: HostLibrary) -> str:
    return library.source.rpartition("site-packages/")[2]


def _series(version: str) -> str:
    return version.rstrip("0123456789.")


def _newest(host: set[str], name: str, version: str) -> str:
    """Return the number of the newest version of the same series that the host's library defines; "" for none."""
    start, newest = f"{name}({_series(version)}", ""
    for item in host:
        number = item[len(start) : -1]
        if item.startswith(start) and number[:1].isdigit() and (not newest or compare(number, newest) > 0):
            newest = number
    return newest


def _add(libraries: Sequence[HostLibrary], wanted: Requirements, installed: bool = False) -> Iterator[str]:
    """Yield what to install or to add to the spec.

    Args:
        libraries: The libraries that are missing or too old.
        wanted: The requirements of the bundle, for its CUDA version.
        installed: Whether the host has them: then only a newer system has newer ones.
    """
    rows = [row for library in libraries if (row := _package(library)) is not None]
    unknown = [library.value for library in libraries if _package(library) is None]
    pip = "pip13" if wanted.cuda is not None and major(wanted.cuda.value) >= 13 else "pip"
    conda = [f"{_names(rows, 'conda')} (conda)"] if _names(rows, "conda") else []
    wheels = [row.get(pip) or row.get("pip", "") for row in rows]
    conda += [f"{' '.join(dict.fromkeys(filter(None, wheels)))} (pip)"] if any(wheels) else []
    ways = [f"add {' or '.join(conda)} to the spec and rebuild"] if conda else []
    system = [f"{_names(rows, tool)} ({tool})" for tool in ("apt", "dnf") if _names(rows, tool)]
    if installed and libraries:
        ways.append("use a newer system")
    elif system:
        ways.insert(0, f"install {' or '.join(system)} on the host")
    if ways:
        yield ", or ".join(ways)
    if unknown and not installed:
        first = unknown[0]
        yield (
            f"install the package that contains {_listed(unknown)} "
            f"(apt-file search {first}; dnf install '{first}()(64bit)'), or add it to the spec and rebuild"
        )


def _package(library: HostLibrary) -> Row | None:
    """Return the row of the packages that contain a library or one in its place, None when no row has them."""
    for name in (library.value, *library.alternatives):
        for row in table("libraries", "packages"):
            if any(fnmatchcase(name, glob) for glob in row["libraries"]):
                return row
    return None


def _names(rows: Iterable[Row], tool: str) -> str:
    return " ".join(dict.fromkeys(row[tool] for row in rows if row.get(tool)))


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


CHECKS = (
    Check(
        "libraries",
        _libraries,
        "the libraries that files of the environment are linked to and that are not in it, and their symbol "
        "versions (GLIBCXX, CXXABI): `failed` if the interpreter or a main library needs one, otherwise a warning",
        needs=("libraries",),
        facts=("libraries",),
    ),
)
"""The check of libraries."""


def wanted_libraries(wanted: Requirements) -> dict[str, tuple[str, ...]]:
    """Return the names of the libraries that the host must have, each with the symbol versions needed of it."""
    needed = [library for library in wanted.needs.libraries if not library.inside]
    alternatives = {name: () for library in needed for name in library.alternatives}
    return {**alternatives, **{library.value: library.versions for library in needed}}
