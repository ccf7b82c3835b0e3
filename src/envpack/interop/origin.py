"""Where an archive comes from: which program made it, how, and where the environment was before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envpack.interop.record import (
    PARCEL,
    PARCEL_ROOT,
    UNPACK,
    PrefixRecord,
    build_prefix,
    parcel_of,
    prefix_of_scripts,
    read_script,
)
from envpack.interop.streams import CHECKSUMS
from envpack.runtime.errors import FormatError

RECORDED, DEST_PREFIX, PARCEL_LAYOUT = "conda-unpack", "dest-prefix", "parcel"
_HEAD = 4096
_LARGEST = 256 << 20
"""Most bytes of a ``conda-unpack``: a record of 100,000 files has 20 MB."""

_SUFFIXES = (".gz", ".zst", ".bz2", ".xz", ".tar", ".tgz", ".tzst", ".tbz2", ".txz", ".zip", ".parcel")


@dataclass(frozen=True)
class Origin:
    """``made_by``: program and version; ``layout``: one of the three above, for what conda-pack made for one place
    without a record of prefixes the second; ``prefix``: what is written in the files, None when nothing tells;
    ``records``: by path, what conda-unpack would rewrite; ``name`` and ``version``: those of a parcel, or ""."""

    made_by: str
    layout: str
    prefix: bytes | None
    records: Mapping[str, PrefixRecord] = field(default_factory=dict)
    name: str = ""
    version: str = ""


def origin_of(read: Mapping[str, bytes], root: str) -> Origin:
    """``read``: the files that tell, by path: conda-unpack, parcel.json, and the heads of what lies in bin;
    ``root``: the environment's folder in the archive. Raises what `read_script` does."""
    for path in UNPACK:
        if path in read:
            script = read_script(read[path])
            made_by = f"conda-pack {script.version}".rstrip()
            return Origin(made_by, RECORDED, build_prefix(script.records.values()), script.records)
    if PARCEL in read:
        name, version = parcel_of(read[PARCEL])
        prefix = os.fsencode(f"{PARCEL_ROOT}/{root}") if root else None
        written = prefix_of_scripts(read.values())
        return Origin("conda-pack", PARCEL_LAYOUT, written or prefix, name=name, version=version)
    # conda-pack's activate begins with this in every version (conda_pack/scripts/posix/activate)
    by_conda_pack = read.get("bin/activate", b"").startswith(b"_conda_pack_activate()")
    made_by = "conda-pack" if by_conda_pack else "a program that left no sign"
    return Origin(made_by, DEST_PREFIX, prefix_of_scripts(read.values()))


def telling_files(root: Path) -> dict[str, bytes]:
    """The files of an unpacked environment that `origin_of` asks for. Raises FormatError for one far too large."""
    return dict(_telling_files(root))


def _telling_files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in (*UNPACK, PARCEL):
        place = root / path
        if place.is_file() and not place.is_symlink():
            if place.stat().st_size > _LARGEST:
                raise FormatError(f"{path} in it is too large to be what conda-pack writes")
            yield path, place.read_bytes()
    folder = root / "bin"
    if folder.is_dir() and not folder.is_symlink():
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_file(follow_symlinks=False) and f"bin/{entry.name}" not in UNPACK:
                with open(entry.path, "rb") as file:
                    yield f"bin/{entry.name}", file.read(_HEAD)


def name_of(archive: Path) -> str:
    """A name for what is in an archive: the file's, without suffixes."""
    name = archive.name
    while name.lower().endswith(_SUFFIXES):
        name = name.rpartition(".")[0]
    return name or "environment"


def lacks(origin: Origin, format: str, proofs: tuple[int, int, int] | None = None) -> tuple[str, ...]:
    """What an archive doesn't say, one sentence each; ``proofs``: how many files proved to be what their packages
    installed, of how many, and how many are not."""
    found = ["no checksums: 'envpack deploy' compares files with what their packages and pip recorded of them"]
    if proofs is not None:
        proved, files, differing = proofs
        found = [f"no checksums: {proved:,} of {files:,} files are as their packages or pip recorded them"]
        found[0] += f", and {differing:,} are not" if differing else ""
    if format not in CHECKSUMS:
        found.append(f"no checksum of the archive: {format} has none here, so damage may go unseen")
    found.append("no manifest: packages were looked up in conda-meta and in pip's metadata")
    found.append("no requirements: what the host must have was looked up in the files")
    found.append("no tests, no commands" + ("" if origin.name else ", no name and version"))
    if origin.layout == RECORDED:
        found.append(
            "no edits: conda-pack packs files from the package cache, and not as they are in the environment"
        )
    else:
        where = f"packed for {os.fsdecode(origin.prefix)}" if origin.prefix else "where it was is unknown"
        found.append(f"no record of prefixes ({where}): mentions were found by search")
    return tuple(found)
