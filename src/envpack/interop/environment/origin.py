"""The origin of an archive: the program that made it, its layout, and the environment's former prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envpack.interop.archive.formats import CHECKSUMS, FORMATS
from envpack.interop.environment.conda_pack_files import (
    CONDA_UNPACK,
    PARCEL,
    PARCEL_ROOT,
    PC_FILES,
    SCRIPTS,
    PrefixRecord,
    parcel_of,
    read_script,
    recorded_prefix,
    written_prefix,
)
from envpack.runtime.errors import FormatError
from envpack.runtime.fs.io import read_file

RECORDED, DEST_PREFIX, PARCEL_LAYOUT = "conda-unpack", "dest-prefix", "parcel"
_HEAD = 4096
_MAX_SIZE = 256 << 20
"""Most bytes of a ``conda-unpack``: a record of 100,000 files has 20 MB."""

_SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)


@dataclass(frozen=True)
class Origin:
    """The origin of an archive.

    Args:
        made_by: Program and version.
        layout: RECORDED, DEST_PREFIX or PARCEL_LAYOUT; DEST_PREFIX for what conda-pack made for one prefix without
            a record of prefixes.
        prefix: The prefix written in the files, None when it can't be determined.
        records: What conda-unpack would rewrite, by path.
        name: The name of a parcel, or "".
        version: The version of a parcel, or "".
    """

    made_by: str
    layout: str
    prefix: bytes | None
    records: Mapping[str, PrefixRecord] = field(default_factory=dict)
    name: str = ""
    version: str = ""


def origin_of(files: Mapping[str, bytes], root: str) -> Origin:
    """Return the origin of an archive as its files show it.

    Args:
        files: The files to look at, by path: conda-unpack, parcel.json, and the first bytes of each file that
            `written_prefix` reads.
        root: The environment's folder in the archive, "" for the archive itself.

    Raises:
        FormatError, IntegrityError: As `read_script` raises them.
    """
    for path in CONDA_UNPACK:
        if path in files:
            script = read_script(files[path])
            made_by = f"conda-pack {script.version}".rstrip()
            return Origin(made_by, RECORDED, recorded_prefix(script.records.values()), script.records)
    if PARCEL in files:
        name, version = parcel_of(files[PARCEL])
        prefix = os.fsencode(f"{PARCEL_ROOT}/{root}") if root else None
        return Origin("conda-pack", PARCEL_LAYOUT, written_prefix(files) or prefix, name=name, version=version)
    # conda-pack's activate begins with this in every version (conda_pack/scripts/posix/activate)
    by_conda_pack = files.get("bin/activate", b"").startswith(b"_conda_pack_activate()")
    made_by = "conda-pack" if by_conda_pack else "an unknown program"
    return Origin(made_by, DEST_PREFIX, written_prefix(files))


def identifying_files(root: Path) -> dict[str, bytes]:
    """Return the files of an unpacked environment that `origin_of` reads, by path.

    Raises:
        FormatError: A file is far too large for what it should be.
    """
    return dict(_identifying_files(root))


def _identifying_files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in (*CONDA_UNPACK, PARCEL):
        file = root / path
        if file.is_file() and not file.is_symlink():
            if file.stat().st_size > _MAX_SIZE:
                raise FormatError(f"{path} is too large to be a file of conda-pack")
            yield path, read_file(file)
    real = os.path.realpath(root)
    for folder in (SCRIPTS, PC_FILES):
        path = os.path.join(real, folder)
        if os.path.isdir(path) and os.path.realpath(path) == path:
            for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
                if entry.is_file(follow_symlinks=False) and f"{folder}/{entry.name}" not in CONDA_UNPACK:
                    yield f"{folder}/{entry.name}", read_file(entry.path, _HEAD)


def name_of(archive: Path) -> str:
    """Return a name for the content of an archive: the file's name without suffixes."""
    name = archive.name
    while name.lower().endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name or "environment"


def missing_guarantees(origin: Origin, format: str, counts: tuple[int, int, int] | None = None) -> tuple[str, ...]:
    """Return what an archive doesn't state, one sentence each.

    Args:
        origin: The origin of the archive.
        format: The format, as `envpack.interop.archive.formats.format_of` returns it.
        counts: The number of files verified to be what their packages installed, the number of all files, and the
            number of files that differ; None when no files were compared.
    """
    sentences = [
        "no checksums: 'envpack deploy' compares files with the digests in conda-meta and in pip's metadata"
    ]
    if counts is not None:
        verified, total, differing = counts
        sentences = [
            f"no checksums: {verified:,} of {total:,} files match the digests in conda-meta or in pip's metadata"
        ]
        sentences[0] += f", and {differing:,} differ" if differing else ""
    if format not in CHECKSUMS:
        sentences.append(f"no checksum of the archive: damage to a {format} archive may not be detected")
    sentences.append("no manifest: the packages were read from conda-meta and pip's metadata")
    sentences.append("no requirements: they were derived from the files")
    sentences.append("no tests and no commands" + ("" if origin.name else ", no name and no version"))
    if origin.layout == RECORDED:
        sentences.append(
            "no edited files: conda-pack packs the files in the package cache, not those in the environment"
        )
    else:
        where = f"packed for {os.fsdecode(origin.prefix)}" if origin.prefix else "for an unknown path"
        sentences.append(f"no record of prefixes ({where}): the prefix was searched for in the files")
    return tuple(sentences)
