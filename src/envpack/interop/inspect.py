"""The content of another tool's archive from its metadata: nothing is unpacked, but a tar is read to its end."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from envpack.interop.archive.formats import FORMATS, format_of
from envpack.interop.archive.members import Member, read_members
from envpack.interop.environment.conda_pack_files import (
    ADDED_FILES,
    CONDA_UNPACK,
    PARCEL,
    PC_FILES,
    SCRIPTS,
    find_root,
)
from envpack.interop.environment.origin import Origin, missing_guarantees, name_of, origin_of
from envpack.prefix.owners.conda_meta import Claim, CondaRecord, read_record
from envpack.prefix.owners.ownership import Ownership, assign
from envpack.prefix.owners.pypi import Distribution, metadata_folders, read_distribution
from envpack.prefix.scan.walk import GENERATED
from envpack.runtime.activation.variables import effective
from envpack.runtime.errors import IntegrityError, PackError
from envpack.runtime.format.changes import Changes
from envpack.runtime.format.manifest import Manifest, Package
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.report import Reporter

_CODECS = {known.name: known.codec for known in FORMATS}

_METADATA = re.compile(
    r"(?:^|/)(?:conda-meta/(?:[^/]+\.json|state)"
    r"|[^/]+\.(?:dist|egg)-info/(?:METADATA|PKG-INFO|RECORD|INSTALLER|direct_url\.json|installed-files\.txt)"
    rf"|{'|'.join(map(re.escape, (*CONDA_UNPACK, PARCEL)))})$"
)
_HEADS = re.compile(rf"(?:^|/)(?:{SCRIPTS}|{PC_FILES})/[^/]+$")
_INTERPRETER = re.compile(r"bin/(?:python|pypy)\d+\.\d+")
_MAX_METADATA_SIZE = 256 << 20
_HEAD = 4096


@dataclass(frozen=True)
class Inspected:
    """The result of inspecting an archive.

    The manifest has what a bundle's would have, as far as it can be known: no segments, no requirements, and in
    ``changes`` no list of modified files.
    """

    origin: Origin
    manifest: Manifest
    missing_guarantees: tuple[str, ...]


def inspect_archive(archive: Path, reporter: Reporter) -> Inspected:
    """Read the metadata of the environment in ``archive``.

    Raises:
        FormatError: There is no environment in the archive.
        IntegrityError: The archive is damaged, as far as it was read, or unsafe.
    """
    members: dict[str, Member] = {}
    read: dict[str, bytes] = {}
    with reporter.step(f"Reading {archive.name}", archive.stat().st_size) as step:
        for member, data in read_members(archive, step.advance):
            members[member.path] = member
            if member.type == "file" and _METADATA.search(member.path):
                read[member.path] = _read_whole(member, data)
            elif member.type == "file" and _HEADS.search(member.path):
                read[member.path] = b"".join(bytes(piece) for piece in islice(data, 1))[:_HEAD]
        root = find_root(members)
        step.detail = f"{len(members)} members"
    start = len(root) + 1 if root else 0
    inside = {path[start:]: member for path, member in members.items() if path[start:]}
    metadata = {path[start:]: data for path, data in read.items()}
    origin = origin_of({path: data for path, data in metadata.items() if not path.startswith("conda-meta/")}, root)
    try:
        manifest = _manifest(archive, origin, inside, metadata)
    except PackError as problem:
        raise IntegrityError(f"{archive}: {problem.message}") from None
    return Inspected(origin, manifest, missing_guarantees(origin, format_of(archive)))


def _read_whole(member: Member, data: Iterable[bytes | memoryview]) -> bytes:
    if member.size > _MAX_METADATA_SIZE:
        raise IntegrityError(f"{member.path!r} is too large for a file of this name")
    return b"".join(data)


def _manifest(archive: Path, origin: Origin, members: Mapping[str, Member], read: Mapping[str, bytes]) -> Manifest:
    paths = {path: member for path, member in members.items() if member.type != "directory"}
    records = [read_record(path, read[path]) for path in sorted(paths) if _is_record(path) and path in read]
    distributions = list(_distributions(paths, records, read))
    owners: list[CondaRecord | Distribution] = [*records, *distributions]
    own = {path for path in (*ADDED_FILES, *CONDA_UNPACK, *GENERATED) if path in paths}
    packaged = {path: member for path, member in paths.items() if path not in own}
    ownership = assign(packaged, [owner.claims for owner in owners], len(records), lambda path, claim: False)
    longest, limited_by = _max_prefix_length(origin, records)
    subdirs = {record.package.subdir for record in records} - {"noarch", ""}
    return Manifest(
        name=origin.name or name_of(archive),
        version=origin.version or "",
        subdir=min(subdirs, default=""),
        created=max((record.made for record in records), default=0),
        writer=origin.made_by,
        codec=_CODECS[format_of(archive)],
        size=sum(member.size for member in paths.values()),
        files=len(paths),
        paths_size=0,
        paths_sha256="",
        head=(),
        segments=(),
        packages=tuple(_packages([owner.package for owner in owners], ownership, packaged)),
        python=max((path for path in paths if _INTERPRETER.fullmatch(path)), default=""),
        longest_prefix=longest,
        limited_by=limited_by,
        variables=_variables(read.get("conda-meta/state", b"")),
        changes=Changes(
            missing=tuple(path for path in ownership.missing if path not in own),
            foreign=tuple(sorted(path for path in packaged if _is_foreign(path, ownership))),
            replaced=tuple(sorted({*ownership.replaced, *own})),
        ),
    )


def _is_record(path: str) -> bool:
    return posixpath.dirname(path) == "conda-meta" and path.endswith(".json")


def _is_foreign(path: str, ownership: Ownership) -> bool:
    return path not in ownership.owners and path not in ownership.useless and not path.startswith("conda-meta/")


def _distributions(
    paths: Mapping[str, Member], records: Iterable[CondaRecord], read: Mapping[str, bytes]
) -> Iterator[Distribution]:
    """Yield the distributions that pip installed, without those that came with conda packages."""
    conda_claims: dict[str, Claim] = {}
    for record in records:
        conda_claims.update(record.claims)
    for folder in metadata_folders(paths):
        inside = [path for path in paths if path.startswith(f"{folder}/")]
        present = [path for path in inside if path in read]
        distribution = read_distribution(folder, present, lambda path: read[path])
        distribution = replace(distribution, claims={**dict.fromkeys(inside, Claim()), **distribution.claims})
        claim = conda_claims.get(distribution.record)
        published = claim.published if claim is not None else None
        reinstalled = (
            published is not None
            and distribution.installer not in ("", "conda")
            and hashlib.sha256(read.get(distribution.record, b"")).hexdigest() != published.sha256
        )
        if claim is None or reinstalled:
            yield distribution


def _packages(packages: list[Package], ownership: Ownership, paths: Mapping[str, Member]) -> Iterator[Package]:
    sizes, counts = [0] * len(packages), [0] * len(packages)
    for path, (owner, _) in ownership.owners.items():
        if not path.startswith("conda-meta/"):
            sizes[owner] += paths[path].size
            counts[owner] += 1
    for package, size, count in zip(packages, sizes, counts, strict=True):
        yield replace(package, size=size, files=count, segment="")


def _max_prefix_length(origin: Origin, records: Iterable[CondaRecord]) -> tuple[int | None, str]:
    lengths = [(len(r.placeholder), r.path) for r in origin.records.values() if r.mode == "binary"]
    for record in records:
        for path, claim in record.claims.items():
            published = claim.published
            if published is not None and published.placeholder is not None and published.file_mode == "binary":
                lengths.append((len(published.placeholder), path))
    return min(lengths, default=(None, ""))


def _variables(state: bytes) -> dict[str, str]:
    try:
        return effective(json_value(state or b"{}").get("env_vars", {}))
    except (ValueError, AttributeError):
        return {}
