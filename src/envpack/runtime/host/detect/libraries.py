"""Detection of the shared libraries that the host's loader finds, and of the symbol versions they define.

Source: ld.so(8): the folders of LD_LIBRARY_PATH, the cache ``/etc/ld.so.cache``, then the default folders. The
format of the cache is that of glibc's ``sysdeps/generic/dl-cache.h``.
"""

from __future__ import annotations

import os
import platform
import re
import struct
from pathlib import Path
from typing import Iterable, Iterator, Mapping

from envpack.runtime.fs.io import read_file
from envpack.runtime.host.tables import table

_MAGIC = b"glibc-ld.so.cache1.1"
_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03, "ppc64le": 0x0503, "s390x": 0x0403}
"""The flags of the libraries of a machine in the cache, without those of hardware capabilities."""
_FOLDERS = ("lib64", "usr/lib64", "lib", "usr/lib")
_LARGEST = 1 << 28
_SERIES = re.compile(r"(.*?)\d+(?:\.\d+)*$")


def read_libraries(root: Path, environ: Mapping[str, str], wanted: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the libraries of the host and the versions they define, in the notation of RPM.

    "libstdc++.so.6" is a library, and "libstdc++.so.6(GLIBCXX_3.4.30)" a symbol version that it defines. Of the
    versions these are those of the same series as the wanted ones, and those of libraries.json.

    Args:
        root: The folder that holds the host's files.
        environ: The environment variables, for LD_LIBRARY_PATH.
        wanted: Names of libraries, each with the symbol versions that are needed of it. If there are none, all
            libraries of the host are returned.
    """
    found = _libraries(root, environ)
    for name in wanted:
        if "/" in name and os.path.exists(_beneath(root, name)):
            found[name] = _beneath(root, name)
    known = {row["library"]: row["series"] for row in table("libraries", "versions")}
    answer = []
    for name in sorted(wanted or found):
        if name in found:
            answer.append(name)
            series = {*known.get(name, ()), *map(_series, wanted.get(name, ()))}
            answer += [f"{name}({version})" for version in _versions(found[name], series)] if series else []
    return tuple(answer)


def _libraries(root: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the path of each library that the loader finds, by name."""
    machine = platform.machine()
    found: dict[str, str] = {}
    for folder in environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":"):
        if folder.startswith("/"):
            _add(found, _beneath(root, folder))
    for name, path in _cached(_read(_beneath(root, "/etc/ld.so.cache")), machine):
        if name not in found and os.path.exists(_beneath(root, path)):
            found[name] = _beneath(root, path)
    triplet = f"{machine}-linux-gnu"
    for folder in (f"lib/{triplet}", f"usr/lib/{triplet}", *_FOLDERS):
        _add(found, os.path.join(root, folder))
    return found


def _add(found: dict[str, str], folder: str) -> None:
    """Add the libraries of a folder that are for this machine and not known yet."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if ".so" in name and name not in found and _is_for_this_machine(os.path.join(folder, name)):
            found[name] = os.path.join(folder, name)


def _is_for_this_machine(path: str) -> bool:
    """Return whether the file is an ELF file of 64 bits: others of these folders are for 32 bits."""
    return _read(path, 5) == b"\x7fELF\x02"


def _cached(data: bytes, machine: str) -> Iterator[tuple[str, str]]:
    """Yield names and paths of the libraries in the loader's cache; none when it has another format."""
    start = data.find(_MAGIC)
    if start < 0 or len(data) < start + 48:
        return
    (count,) = struct.unpack_from("=I", data, start + 20)
    wanted = _FLAGS.get(machine)
    for number in range(min(count, (len(data) - start - 48) // 24)):
        flags, key, value = struct.unpack_from("=III", data, start + 48 + 24 * number)
        if wanted is None or flags & 0xFFFF == wanted:
            name, path = (_text(data, start + offset) for offset in (key, value))
            if name and path.startswith("/"):
                yield name, path


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset)
    return os.fsdecode(data[offset:end]) if 0 <= offset < end else ""


def _series(version: str) -> str:
    match = _SERIES.match(version)
    return match[1] if match else version


def _versions(path: str, series: Iterable[str]) -> Iterator[str]:
    """Yield the versions of these series that are named in the library's table of strings."""
    data = _read(path, _LARGEST)
    for name in sorted(series):
        # no NUL before it: linkers store "OMP_1.0" as the end of "GOMP_1.0"
        pattern = re.escape(name.encode()) + rb"[0-9.]*(?=\0)"
        for version in sorted(set(re.findall(pattern, data))):
            yield version.decode()


def _beneath(root: Path, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _read(path: str, size: int = _LARGEST) -> bytes:
    """Return the first ``size`` bytes of a file; nothing when it can't be read, or is none (a FIFO, a device)."""
    try:
        return read_file(path, size)
    except OSError:
        return b""
