"""The paths under which an environment's files may mention it.

An environment is made, used and packed under different paths: through a link to a disk, or a home folder mounted
at two mount points. Its files hold the path that it was made under, which may be neither the one given now nor
the real one, and after the environment was moved, a path that no longer exists. The files that record such paths
are known.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from envpack.prefix.relocate.shebang import interpreter
from envpack.runtime.fs.io import read_file

_HEAD = 1024
_MOST = 4 << 20
"""Bytes of a file that are read as evidence; histories of years are smaller."""

# in quotes a path may hold blanks
_PATHS = re.compile(rb"\"(/[^\"\n\0]+)\"|'(/[^'\n\0]+)'|(/[^\s\0\"',:;=]+)")
_SYSTEM = (b"/usr", b"/usr/local")
_SYSCONFIG_PREFIX = re.compile(rb"^ *'prefix': '(/[^'\n]+)'", re.MULTILINE)


def aliases(prefix: Path) -> tuple[bytes, ...]:
    """Return every path, as bytes, by which the files in ``prefix`` may mention it.

    These are the real path, the one given, and of the paths named by its scripts, its history and its Python's
    configuration, those that lead to the same folder.
    """
    real, given = os.fsencode(os.path.realpath(prefix)), os.fsencode(posixpath.abspath(prefix))
    found = set()
    try:
        here = os.stat(real)
    except OSError:
        return tuple(dict.fromkeys((real, given)))
    for path in _folders(_PATHS.findall(b"\n".join(_evidence(prefix)))):
        with suppress(OSError):
            if os.path.samestat(os.stat(path), here):
                found.add(path)
    return tuple(dict.fromkeys((real, given, *sorted(found))))


def scripts_of_others(prefix: Path, names: Sequence[bytes]) -> dict[bytes, list[str]]:
    """Return the scripts in bin that run a program of another environment, by the path of that environment.

    Another environment is a folder with the metadata of one, or one that has, or had, a program in bin that this
    environment has too: after ``cp -a``, scripts still run what is in the original.

    Args:
        prefix: The environment.
        names: All paths of it.
    """
    found: dict[bytes, list[str]] = {}
    for path in _children(prefix / "bin"):
        program = interpreter(b"".join(_read([path], _HEAD)))
        if program is None or program.prefix in (*names, *_SYSTEM):
            continue
        other = os.fsdecode(program.prefix)
        known = any(os.path.lexists(f"{other}/{name}") for name in ("conda-meta", "pyvenv.cfg"))
        if known or os.path.lexists(prefix / "bin" / os.fsdecode(program.name)):
            found.setdefault(program.prefix, []).append(f"bin/{path.name}")
    return found


def longer_names(paths: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the paths that exist and begin with one of ``paths``, without a slash behind it: /opt/env2."""
    found: set[bytes] = set()
    for path in paths:
        folder, name = posixpath.split(path)
        with suppress(OSError):
            others = os.listdir(folder)
            found.update(posixpath.join(folder, one) for one in others if one.startswith(name) and one != name)
    return tuple(sorted(found))


def previous_prefix(prefix: Path) -> bytes | None:
    """Return the path where the environment was made, when it was moved since and nothing exists there any more.

    The configuration of its Python records that path at installation. With several Pythons, their paths must
    agree.
    """
    recorded = set()
    for data in _read(_configurations(prefix), _MOST):
        recorded.update(_SYSCONFIG_PREFIX.findall(data))
    if len(recorded) != 1:
        return None
    path = posixpath.normpath(recorded.pop())
    return None if path == b"/" or os.path.lexists(path) else path


def _evidence(prefix: Path) -> Iterator[bytes]:
    """Yield texts that may name the path that the environment was made under."""
    lines = b"\n".join(_read([prefix / "conda-meta" / "history"], _MOST)).splitlines()
    commands = [line for line in lines if line.startswith(b"# cmd:")]
    scripts = (head for head in _read(_children(prefix / "bin"), _HEAD) if head.startswith(b"#!"))
    others = ("conda-meta/pixi_env_prefix", "pyvenv.cfg", "etc/profile.d/conda.sh")
    files = [prefix / name for name in others]
    files += [folder / "kernel.json" for folder in _children(prefix / "share/jupyter/kernels")]
    return chain(commands, scripts, _read([*files, *_configurations(prefix)], _MOST))


def _configurations(prefix: Path) -> list[Path]:
    libraries = [path for path in _children(prefix / "lib") if path.name.startswith("python")]
    return [path for folder in libraries for path in _children(folder) if path.name.startswith("_sysconfigdata")]


def _children(folder: Path) -> list[Path]:
    """Return the paths in a folder, sorted. Not by `Path.glob`: a link to a name that is too long stops it."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _read(paths: Iterable[Path], most: int) -> Iterator[bytes]:
    for path in paths:
        with suppress(OSError):  # walk reports what can't be read
            if os.path.isfile(path):
                yield read_file(path, most)


def _folders(found: Iterable[tuple[bytes, ...]]) -> set[bytes]:
    """Return the paths named, and every folder above them."""
    folders: set[bytes] = set()
    for path in (posixpath.normpath(b"".join(groups)) for groups in found):
        while path not in folders and len(path) > 1 and not path.startswith(b"//"):
            folders.add(path)
            path = posixpath.dirname(path)
    return folders
