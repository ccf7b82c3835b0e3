"""The files that conda-pack adds to an archive for unpacking: its record of prefixes, and signs of its layouts.

``bin/conda-unpack`` is a Python program with the record in it as a list of tuples, one per line, the same since
conda-pack 0.1 (conda_pack/core.py, ``_conda_unpack_template``). It is read as text and never run.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from envpack.interop.archive.members import safe_path
from envpack.prefix.relocate.shebang import interpreter
from envpack.prefix.scan.windowed_file import FileData
from envpack.runtime.errors import FormatError, IntegrityError
from envpack.runtime.fs.json_text import json_value

CONDA_UNPACK = ("bin/conda-unpack", "Scripts/conda-unpack-script.py")
"""Paths at which conda-pack writes its program: on Linux and macOS, and on Windows."""

SCRIPTS, PC_FILES = "bin", "lib/pkgconfig"
"""Folders whose files state the prefix that is written in an environment; some environments have no scripts."""

PARCEL = "meta/parcel.json"
ADDED_FILES = ("bin/conda_unpack_progress.py", PARCEL, "meta/conda_env.sh")
"""Paths that conda-pack adds, besides scripts with the names of envpack's own (``Packer.finish``)."""

PARCEL_ROOT = "/opt/cloudera/parcels"
"""conda-pack's default folder to unpack parcels in (conda_pack/core.py, ``_parcel_output``)."""

_LIST = re.compile(rb"^_prefix_records = \[\r?\n(?P<lines>.*?)^\]\r?$", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(rb"^ +print\('conda-unpack ([\w.+!-]+)'\)\r?$", re.MULTILINE)
_PC_PREFIX = re.compile(rb"^prefix[ \t]*=[ \t]*(/[^\n$]*?)[ \t\r]*$", re.MULTILINE)
_LONGEST_PREFIX = 4096

# conda-build pads its prefix like this (conda_build/config.py, Config.build_prefix), and before that it was the
# second path, which conda-pack 0.1 and 0.2 put into files of no package, too.
_PLACEHOLDERS = (b"placehold_placehold", b"/opt/anaconda1anaconda2anaconda3")


class PrefixRecord(NamedTuple):
    """One file that ``conda-unpack`` rewrites: its path, the bytes it replaces there, and "text" or "binary"."""

    path: str
    placeholder: bytes
    mode: str


@dataclass(frozen=True)
class UnpackScript:
    """The content of a ``conda-unpack``: conda-pack's version, "" when unknown, and the records by path."""

    version: str
    records: Mapping[str, PrefixRecord]


def read_script(data: bytes) -> UnpackScript:
    """Return the version and the records in a ``conda-unpack``.

    Raises:
        FormatError: It has no record of prefixes.
        IntegrityError: A record in it is impossible.
    """
    found = _LIST.search(data)
    if found is None:
        raise FormatError("its conda-unpack was not written by conda-pack: it has no record of prefixes")
    records = {}
    for line in found["lines"].splitlines():
        line = line.strip().rstrip(b",")
        if line:
            record = _read_record(line)
            records[record.path] = record  # a path that two packages have is listed twice, and the last one counts
    version = _VERSION.search(data)
    return UnpackScript(version[1].decode() if version else "", records)


def _read_record(line: bytes) -> PrefixRecord:
    try:
        value = ast.literal_eval(line.decode("utf-8"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # as ast.literal_eval's documentation states
        value = None
    if not (isinstance(value, tuple) and len(value) == 3 and all(isinstance(part, str) for part in value)):
        raise IntegrityError(f"its conda-unpack has an invalid record: {line[:80].decode('utf-8', 'replace')}")
    path, placeholder, mode = value
    if mode not in ("text", "binary") or not 2 <= len(placeholder) <= _LONGEST_PREFIX:
        raise IntegrityError(f"its conda-unpack has an invalid record for {path!r}")
    return PrefixRecord(safe_path(path.replace("\\", "/")), placeholder.encode("utf-8", "surrogateescape"), mode)


# --- layout ---


def find_root(paths: Collection[str]) -> str:
    """Return the folder in the archive that is the environment, "" for the archive itself.

    conda-pack's ``--arcroot`` and parcels put a folder around the environment.

    Raises:
        FormatError: There is no environment, more than one, or more in the archive than the environment.
    """
    roots = set()
    for path in paths:
        if path.endswith(CONDA_UNPACK) or (path.endswith(".json") and "conda-meta/" in path):
            for mark in (*CONDA_UNPACK, posixpath.join("conda-meta", posixpath.basename(path))):
                if path == mark or path.endswith(f"/{mark}"):
                    roots.add(path[: -len(mark)].rstrip("/"))
    least = min((root.count("/") + 1 if root else 0 for root in roots), default=-1)
    outermost = sorted(root for root in roots if (root.count("/") + 1 if root else 0) == least)
    if not outermost:
        raise FormatError(
            "not an archive of an environment: it has neither conda-meta nor bin/conda-unpack",
            hint="Give a bundle, or an archive made by conda-pack.",
        )
    if len(outermost) > 1:
        raise FormatError("there is more than one environment in the archive", details=outermost)
    root = outermost[0]
    around = f"{root}/"
    beside = [
        path for path in paths if root and not f"{path}/".startswith(around) and not around.startswith(f"{path}/")
    ]
    if beside:
        raise FormatError(f"there are files outside the environment {root!r} in the archive", details=beside[:20])
    return root


def recorded_prefix(records: Iterable[PrefixRecord]) -> bytes | None:
    """Return the environment's prefix when it was packed, as the records state it; None when there are no records.

    conda-pack records a package's own placeholder for files it took from the package cache, and the environment's
    path for every other text (``Packer.add``).
    """
    found = Counter(record.placeholder for record in records)
    return max(found, key=lambda name: (not is_placeholder(name), found[name]), default=None)


def is_placeholder(name: FileData) -> bool:
    """Return whether a path, or data with a path in it, has a placeholder as conda-build puts it into packages."""
    return any(name.find(placeholder) >= 0 for placeholder in _PLACEHOLDERS)


def written_prefix(files: Mapping[str, bytes]) -> bytes | None:
    """Return the prefix that most scripts name in their first line, else most ``.pc`` files; None when none does.

    Args:
        files: The first bytes of files, by path; those in SCRIPTS and PC_FILES count.
    """
    for folder, prefix_in in ((SCRIPTS, _prefix_of_script), (PC_FILES, _prefix_of_pc_file)):
        heads = (data for path, data in files.items() if posixpath.dirname(path) == folder)
        found = Counter(prefix for prefix in map(prefix_in, heads) if prefix not in (None, b"/usr"))
        if found:
            return max(found, key=lambda prefix: found[prefix])
    return None


def _prefix_of_script(head: bytes) -> bytes | None:
    found = interpreter(head)
    return found.prefix if found is not None else None


def _prefix_of_pc_file(head: bytes) -> bytes | None:
    found = _PC_PREFIX.search(head)
    return found[1] if found is not None else None


def parcel_of(data: bytes) -> tuple[str, str]:
    """Return the name and the version that a parcel.json states, "" for each that it doesn't state."""
    try:
        document = json_value(data)
        return str(document.get("name", "")), str(document.get("version", ""))
    except (ValueError, AttributeError):
        return "", ""
