"""A package of programs that were built elsewhere: those of a folder, or those inside a wheel.

For programs that a spec names as conda packages, and that a package index has only inside wheels, such as ffmpeg.
They are packaged as they are, so they have to work at any place: linked to nothing but glibc and to libraries
beside them, and without the path of their folder in them.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import zipfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from channel_maker.errors import ChannelError
from channel_maker.linked import PLATFORM
from channel_maker.package import (
    InZip,
    Link,
    OnDisk,
    PackageFile,
    PackageIdentity,
    PackageMetadata,
    placeholder_for,
    write_conda,
)
from channel_maker.wheels import Wheel
from envpack.prefix.needs.elf import read_elf

# Part of the build string: raise it when the same programs have to become a different package.
REVISION = 1

_NAMED = re.compile(r"(?P<name>[a-z0-9_][a-z0-9_.-]*)==?(?P<version>[a-z0-9_.]+)")
_ELF = b"\x7fELF"


@dataclass(frozen=True)
class ProgramsPlan:
    """The package to be made of ``source``: a folder that is laid out as a prefix, or a wheel."""

    source: Path | Wheel
    identity: PackageIdentity
    metadata: PackageMetadata

    def write(self, out: Path, *, epoch: int) -> None:
        """Write the package file ``out``."""
        with ExitStack() as stack:
            if isinstance(self.source, Path):
                files = folder_files(self.source)
            else:
                files = wheel_programs(stack.enter_context(self.source.opened()), self.source.path.name)
            placeholder = placeholder_for(self.identity.name, epoch)
            write_conda(out, self.identity, self.metadata, files, placeholder=placeholder, epoch=epoch)


def parse_name(text: str) -> tuple[str, str]:
    """Return the name and version in ``ffmpeg=6.0``; raise :class:`ChannelError` where there are none."""
    match = _NAMED.fullmatch(text)
    if match is None:
        raise ChannelError(
            f"{text!r} is not the name and version of a package.",
            hint="Write them as NAME=VERSION, such as ffmpeg=6.0.",
        )
    return match["name"], match["version"]


def plan_programs(name: str, version: str, licence: str, source: Path | Wheel, subdir: str) -> ProgramsPlan:
    """Return the plan of a package of programs; its build string is a hash of the source.

    Args:
        name: The name of the package.
        version: Its version.
        licence: The licence of the programs, as an SPDX expression; "" when unknown. That of a wheel is not
            taken: it is often the licence of a few lines of Python around the programs.
        source: The folder or the wheel.
        subdir: The platform of the programs, in conda's words.

    Raises:
        ChannelError: The source has no programs, or one that does not work elsewhere.
    """
    if isinstance(source, Path):
        content = [[file.path, *_content(file)] for file in folder_files(source)]
        summary = f"Programs from the folder {source.name}"
    else:
        content = [[source.sha256]]
        summary = f"Programs from the wheel {source.path.name}"
    digest = hashlib.sha256(json.dumps([REVISION, licence, content]).encode()).hexdigest()
    identity = PackageIdentity(name, version, f"h{digest[:7]}_0", subdir)
    return ProgramsPlan(source, identity, PackageMetadata(license=licence, summary=summary))


def _content(file: PackageFile) -> tuple[object, ...]:
    if isinstance(file.source, Link):
        return (file.source.target,)
    with file.source.open() as stream:
        return (hashlib.sha256(stream.read()).hexdigest(), file.executable)


def folder_files(folder: Path) -> list[PackageFile]:
    """Return the files of a folder that is laid out as a prefix: programs in ``bin``, libraries in ``lib``.

    Raises:
        ChannelError: It has no programs, or a file that does not work elsewhere.
    """
    files = [
        _file(Path(root, name), folder)
        for root, folders, names in os.walk(folder)
        for name in sorted({*names, *(name for name in folders if Path(root, name).is_symlink())})
    ]
    if not any(file.path.startswith("bin/") for file in files):
        raise ChannelError(
            f"The folder {folder} has no programs.",
            hint="Put them into its directory bin, and libraries into lib.",
        )
    libraries = {posixpath.basename(file.path) for file in files}
    own_path = os.fsencode(folder.resolve()) + b"/"
    for file in files:
        if isinstance(file.source, OnDisk):
            data = file.source.path.read_bytes()
            _check_linked(data, libraries, str(file.source.path))
            if own_path in data:
                raise ChannelError(
                    f"{file.source.path} contains the path of its folder, so it does not work elsewhere.",
                    hint="Use a build that finds its files relative to the program, or a static one.",
                )
    return files


def _file(path: Path, folder: Path) -> PackageFile:
    target = path.relative_to(folder).as_posix()
    if path.is_symlink():
        leads_to = os.path.normpath(path.parent / path.readlink())
        if not Path(leads_to).is_relative_to(folder):
            raise ChannelError(f"{path} is a link that leads out of the folder.")
        return PackageFile(target, Link(os.path.relpath(leads_to, path.parent)))
    if not path.is_file():
        raise ChannelError(f"{path} is neither a file nor a link.")
    return PackageFile(target, OnDisk(path), executable=os.access(path, os.X_OK))


def wheel_programs(archive: zipfile.ZipFile, wheel: str) -> list[PackageFile]:
    """Return the programs of a wheel, for the folder ``bin``: its ELF files that are not shared libraries.

    Args:
        archive: The open wheel.
        wheel: Its name, for messages.

    Raises:
        ChannelError: There are none, two of one name, or one that does not work elsewhere.
    """
    files: dict[str, PackageFile] = {}
    for member in archive.infolist():
        name = posixpath.basename(member.filename)
        if not name or ".so" in name:
            continue
        with archive.open(member) as stream:
            if stream.read(len(_ELF)) != _ELF:
                continue
        if name in files:
            raise ChannelError(f"The wheel {wheel} contains two programs of the name {name}.")
        _check_linked(archive.read(member), (), f"{member.filename} in the wheel {wheel}")
        files[name] = PackageFile(f"bin/{name}", InZip(archive, member), executable=True)
    if not files:
        raise ChannelError(f"The wheel {wheel} contains no programs for Linux.")
    return list(files.values())


def _check_linked(data: bytes, libraries: Collection[str], what: str) -> None:
    if not data.startswith(_ELF):
        return
    elf = read_elf(data)
    needed = [] if elf is None else [name for name in elf.needed if name not in PLATFORM]
    beside = elf is not None and "$ORIGIN" in elf.rpath + elf.runpath
    missing = [name for name in needed if not (beside and name in libraries)]
    if missing:
        raise ChannelError(
            f"{what} is linked to {', '.join(missing)}, which would be missing elsewhere.",
            hint="Use a static build, or a folder that has the libraries in lib and run paths with $ORIGIN.",
        )


def parse_licences(texts: Collection[str]) -> Mapping[str, str]:
    """Return the licences of packages, by name, from texts such as ``ffmpeg=GPL-3.0-or-later``.

    Raises:
        ChannelError: A text has no ``=``, or an empty part.
    """
    licences = {}
    for text in texts:
        name, _, licence = text.partition("=")
        if not (name and licence):
            raise ChannelError(
                f"{text!r} is not a licence of a package.", hint="Write it as NAME=SPDX-EXPRESSION."
            )
        licences[name] = licence
    return licences
