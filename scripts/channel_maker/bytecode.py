"""Byte-code in the packages that are made for one Python, as conda-build puts it there.

Packages of ``noarch: python`` have none: it is made when they are installed. Sources with the placeholder in them
have none either: installing them makes it invalid.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from channel_maker.package import Link, OnDisk, PackageFile
from envpack.build.bytecode import compile_sources


def byte_code(files: Sequence[PackageFile], python: Path, *, epoch: int, scratch: Path) -> Iterator[PackageFile]:
    """Compile the Python sources among the files of a package, and yield their byte-code.

    Args:
        files: The files of the package, as they will be in it.
        python: The interpreter that it is made for.
        epoch: The time of its files, in seconds since 1970, which the byte-code records.
        scratch: A new folder for copies of the sources. The byte-code is in there.
    """
    sources = []
    for file in files:
        if isinstance(file.source, Link) or file.prefix_mode or not re.fullmatch(r"lib/.*\.py", file.path):
            continue
        path = scratch / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with file.source.open() as stream, path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        sources.append(file.path)
    compile_sources(scratch, python, sources, mtime=epoch)
    present = {file.path for file in files}
    for path in sorted(scratch.rglob("__pycache__/*.pyc")):
        name = path.relative_to(scratch).as_posix()
        if name not in present:
            yield PackageFile(name, OnDisk(path))
