"""The shared libraries that a binary is linked to, found as the dynamic loader of this machine finds them.

A package has to bring all of them but those of PLATFORM, as auditwheel does for wheels. The loader looks in the
order that ld.so(8) tells: the RPATH of the binary and of those that loaded it (where it has no RUNPATH),
LD_LIBRARY_PATH, its RUNPATH, the cache of ldconfig, the default folders. Variants of a library for one kind of
CPU ("glibc-hwcaps") are passed over: a package has to work on all.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from channel_maker.errors import ChannelError
from channel_maker.tools import run
from envpack.prefix.needs.elf import Elf, read_elf

PLATFORM = frozenset(
    [
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
        "libBrokenLocale.so.1",
        "libanl.so.1",
        "libc.so.6",
        "libdl.so.2",
        "libm.so.6",
        "libmvec.so.1",
        "libpthread.so.0",
        "libresolv.so.2",
        "librt.so.1",
        "libthread_db.so.1",
        "libutil.so.1",
    ]
)
"""The libraries of glibc: every host with glibc has them, and they have to be of the same build as the loader.
The list is that of auditwheel's ``manylinux-policy.json`` (PEP 600), reduced to glibc.

Not in the list, so copied: libgcc_s and libstdc++, which small containers do not have, and which may have newer
symbol versions here than on the host (conda has packages of them for the same reasons); libcrypt, which is
libxcrypt's since glibc 2.28 and not on every host; zlib, expat, and libraries of a desktop, all of which PEP 600
expects on a host.
"""

_TCL = "Tcl and Tk find their scripts (init.tcl, tk.tcl) by absolute paths compiled into them"
UNMOVABLE = {
    "libtcl[0-9.]*": _TCL,
    "libtk[0-9.]*": _TCL,
    "libc.musl-*": "it is the C library of musl, but packages are made for glibc",
}
"""Libraries of a distribution that would not work from another place, by the pattern of their names, and why.
Where Tcl's scripts are is compiled into it: https://www.tcl-lang.org/man/tcl8.6/TclCmd/library.htm."""

DEFAULT_FOLDERS = tuple(
    Path(folder)
    for folder in (
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
    )
)
"""The last folders in which glibc searches, as Debian, Fedora and upstream build it; files for other machines are
ignored."""

OTHER_PYTHON = (
    "Use another Python: those of conda-forge and of 'uv python install' contain all the libraries they need."
)


@dataclass(frozen=True)
class Binary:
    """An ELF file; ``path`` as the loader names it, links not followed."""

    path: Path
    elf: Elf


@dataclass(frozen=True)
class Unmovable:
    """The library that keeps a binary from being moved elsewhere, and why."""

    name: str
    why: str


@cache
def read_binary(path: Path) -> Binary | None:
    """Return the ELF file of 64 bits at ``path``; None for any other file, or when there is none."""
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"\x7fELF":
                return None
        elf = read_elf(path.read_bytes())
    except OSError:
        return None
    return Binary(path, elf) if elf else None


@dataclass(frozen=True)
class Loader:
    """The search of the dynamic loader: ``cache`` has the paths of each name, in ldconfig's order."""

    cache: Mapping[str, Sequence[Path]]
    library_path: Sequence[Path] = ()
    defaults: Sequence[Path] = DEFAULT_FOLDERS

    def find(self, name: str, chain: Sequence[Binary]) -> Binary | None:
        """Return the library that the loader finds for ``chain[0]``, which ``chain[1]`` loaded, and so on."""
        machine = chain[0].elf.machine
        for path in self._candidates(name, chain):
            found = read_binary(path)
            if found and found.elf.machine == machine:
                return found
        return None

    def _candidates(self, name: str, chain: Sequence[Binary]) -> Iterable[Path]:
        binary = chain[0]
        if not binary.elf.runpath:
            for loader in chain:
                yield from (folder / name for folder in run_path(loader.elf.rpath, loader.path))
        yield from (folder / name for folder in self.library_path)
        yield from (folder / name for folder in run_path(binary.elf.runpath, binary.path))
        yield from self.cache.get(name, ())
        yield from (folder / name for folder in self.defaults)


def run_path(text: str, binary: Path) -> list[Path]:
    """Return the folders of an RPATH or RUNPATH of ``binary``, without those relative to the current folder."""
    origin = str(binary.parent)
    expanded = [part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for part in text.split(":")]
    return [Path(os.path.normpath(part)) for part in expanded if part.startswith("/") and "$" not in part]


def parse_cache(text: str) -> dict[str, list[Path]]:
    """Parse the output of ``ldconfig -p``: the paths of each name, without those for one kind of CPU."""
    paths: dict[str, list[Path]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s+(\S+) \((.*?)\) => (/.*)", line)
        if match and "hwcap" not in match[2]:
            paths.setdefault(match[1], []).append(Path(match[3]))
    return paths


def loader_of_this_machine() -> Loader:
    """Return the loader of this host, with the environment of this process."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/sbin", "/usr/sbin"])
    ldconfig = shutil.which("ldconfig", path=places)
    text = run([ldconfig, "-p"]).stdout if ldconfig else ""
    library_path = run_path(os.environ.get("LD_LIBRARY_PATH", "").replace(";", ":"), Path())
    return Loader(parse_cache(text), library_path)


def closure(
    binary: Binary, program: Binary, loader: Loader, is_own: Callable[[Path], bool]
) -> dict[str, Binary] | Unmovable:
    """Return all libraries that a binary needs, by name, without those of the PLATFORM.

    Args:
        binary: The binary.
        program: The program that loads it.
        loader: Finds the libraries.
        is_own: Return whether a library belongs to the program, so that it can be copied with it.

    Returns:
        The libraries, or the one that can't be copied.

    Raises:
        ChannelError: A library is not found.
    """
    found: dict[str, Binary] = {}
    pending: list[tuple[Binary, ...]] = [(binary, program)]
    while pending:
        chain = pending.pop(0)
        for name in chain[0].elf.needed:
            if name in PLATFORM or name in found:
                continue
            if "/" in name:
                return Unmovable(name, "it is linked by its path")
            library = loader.find(name, chain)
            if why := _unmovable(name, library, is_own):
                return Unmovable(name, why)
            if library is None:
                raise ChannelError(
                    f"{chain[0].path} is linked to {name}, which was not found on this machine.",
                    hint=f"Install the library. {OTHER_PYTHON}",
                )
            found[name] = library
            pending.append((library, *chain))
    return found


def _unmovable(name: str, library: Binary | None, is_own: Callable[[Path], bool]) -> str:
    """Why the library that was found under ``name`` can't be brought; "" when it can, or is not there."""
    if library and is_own(library.path):
        return ""
    if library and "GLIBC_PRIVATE" in library.elf.versions:
        return "it is part of this machine's glibc and works only with this build of it (GLIBC_PRIVATE)"
    return next((why for pattern, why in UNMOVABLE.items() if fnmatchcase(name, pattern)), "")
