"""The ``.conda`` file: a conda package as values, and writing it the same way, byte for byte, every time.

The format is conda's own (https://docs.conda.io/projects/conda-build/en/stable/resources/package-spec.html and
https://github.com/conda/ceps/blob/main/cep-0035.md): a zip, stored, of ``metadata.json``, ``pkg-*.tar.zst`` and
``info-*.tar.zst``. It is written here and not by conda-package-handling, whose zip carries the time of day: two
makes would never be equal.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import zstandard

from channel_maker.errors import ChannelError

PLACEHOLDER_LENGTH = 255
"""The length conda-build pads its placeholder to; the longest prefix conda can write into a binary."""

DEFAULT_EPOCH = 1_704_067_200
"""Seconds; 2024-01-01. The time of every file when SOURCE_DATE_EPOCH is not set."""

COMPRESSION_LEVEL = 3
CHUNK = 1 << 20

FileMode = Literal["text", "binary"]


class Source(Protocol):
    """A source of a file's bytes."""

    @property
    def size(self) -> int: ...

    def open(self) -> IO[bytes]: ...


@dataclass(frozen=True)
class Inline:
    """Bytes held in memory."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.data)


@dataclass(frozen=True)
class OnDisk:
    """A file of this machine."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def open(self) -> IO[bytes]:
        return self.path.open("rb")


@dataclass(frozen=True)
class InZip:
    """A member of an open zip file."""

    archive: zipfile.ZipFile
    member: zipfile.ZipInfo

    @property
    def size(self) -> int:
        return self.member.file_size

    def open(self) -> IO[bytes]:
        return self.archive.open(self.member)


@dataclass(frozen=True)
class Link:
    """A symbolic link; ``target`` is relative to the folder the link stands in."""

    target: str


@dataclass(frozen=True)
class PackageFile:
    """One file of a package.

    ``prefix_mode`` says how conda has to write the prefix into it, if it has to; ``sha256`` (hexadecimal) what
    the bytes have to be, where that is known beforehand.
    """

    path: str
    source: Source | Link
    executable: bool = False
    prefix_mode: FileMode | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class PackageIdentity:
    """The parts of a package file's name."""

    name: str
    version: str
    build: str
    subdir: str

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    @property
    def file_name(self) -> str:
        return f"{self.stem}.conda"


@dataclass(frozen=True)
class PackageMetadata:
    """The metadata in ``info/`` besides the identity; ``entry_points`` only of ``noarch: python`` packages."""

    depends: tuple[str, ...] = ()
    license: str = ""
    summary: str = ""
    home: str = ""
    noarch_python: bool = False
    entry_points: tuple[str, ...] = ()
    index_extra: Mapping[str, Any] = field(default_factory=dict)


def placeholder_for(name: str, epoch: int) -> str:
    """Return the placeholder of 255 characters for the prefix in the files of the package ``name``.

    It has the form of conda-build's (``conda_build.config.Config.build_prefix``), so that programs that search for
    such placeholders find it.
    """
    stem = f"/home/conda/feedstock_root/build_artifacts/{name}_{epoch * 1000}/_h_env"
    return (stem + "_placehold" * 26)[:PLACEHOLDER_LENGTH]


def write_conda(
    out: Path,
    identity: PackageIdentity,
    metadata: PackageMetadata,
    files: list[PackageFile],
    *,
    placeholder: str,
    epoch: int,
    licences: Mapping[str, OnDisk] | None = None,
) -> None:
    """Write a package; equal arguments give equal bytes.

    Args:
        out: The path of the package.
        identity: Its name, version and build.
        metadata: Its metadata.
        files: Its files.
        placeholder: The placeholder for the prefix in its files.
        epoch: The time of its files, in seconds since 1970.
        licences: The texts of licences, by path in ``info/licenses``.

    Raises:
        ChannelError: Two files have one path, a path leads out of the package, or a file has another ``sha256``.
    """
    ordered = sorted(files, key=lambda file: file.path)
    _check_paths(identity, ordered)
    with zipfile.ZipFile(out, "w", compression=zipfile.ZIP_STORED) as archive:
        with _zip_member(archive, "metadata.json", epoch) as member:
            member.write(_json({"conda_pkg_format_version": 2}))
        with _tar_member(archive, f"pkg-{identity.stem}.tar.zst", epoch) as tar:
            described = _add_files(tar, ordered, epoch)
        with _tar_member(archive, f"info-{identity.stem}.tar.zst", epoch) as tar:
            info: dict[str, Source] = {
                path: Inline(data)
                for path, data in _info_files(
                    identity, metadata, ordered, described, placeholder, epoch, sorted(licences or {})
                ).items()
            }
            info |= {f"info/licenses/{path}": source for path, source in (licences or {}).items()}
            for path, source in sorted(info.items()):
                _add_bytes(tar, path, source, executable=False, epoch=epoch)


def _check_paths(identity: PackageIdentity, files: list[PackageFile]) -> None:
    seen: set[str] = set()
    for file in files:
        path = file.path
        if path.startswith(("/", "info/")) or posixpath.normpath(path) != path or path.split("/")[0] == "..":
            raise ChannelError(f"{identity.name} {identity.version} contains the invalid path {path!r}.")
        if path in seen:
            raise ChannelError(f"{identity.name} {identity.version} contains the file {path!r} twice.")
        seen.add(path)


def _add_files(tar: tarfile.TarFile, files: list[PackageFile], epoch: int) -> dict[str, tuple[str, int]]:
    """Add every file; returns sha256 and size in bytes by path. A link has those of the file it leads to."""
    described: dict[str, tuple[str, int]] = {}
    links: dict[str, str] = {}
    for file in files:
        if isinstance(file.source, Link):
            entry = _tar_entry(file.path, epoch)
            entry.type = tarfile.SYMTYPE
            entry.mode = 0o777
            entry.linkname = file.source.target
            tar.addfile(entry)
            links[file.path] = posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.source.target))
        else:
            digest = _add_bytes(tar, file.path, file.source, executable=file.executable, epoch=epoch)
            if file.sha256 not in (None, digest):
                raise ChannelError(f"{file.path} is damaged: its content does not match its sha256.")
            described[file.path] = (digest, file.source.size)
    for path in links:
        target = path
        while target in links:
            target = links[target]
        described[path] = described.get(target, (hashlib.sha256().hexdigest(), 0))
    return described


def _info_files(
    identity: PackageIdentity,
    metadata: PackageMetadata,
    files: list[PackageFile],
    described: Mapping[str, tuple[str, int]],
    placeholder: str,
    epoch: int,
    licences: list[str],
) -> dict[str, bytes]:
    index: dict[str, Any] = {
        "name": identity.name,
        "version": identity.version,
        "build": identity.build,
        "build_number": int(identity.build.split("_")[1]),
        "subdir": identity.subdir,
        "arch": None,
        "platform": None,
        "depends": list(metadata.depends),
        "constrains": [],
        "license": metadata.license,
        "timestamp": epoch * 1000,
        **metadata.index_extra,
    }
    if identity.subdir != "noarch":
        index["platform"], _, machine = identity.subdir.partition("-")
        index["arch"] = {"64": "x86_64"}.get(machine, machine)
    if metadata.noarch_python:
        index["noarch"] = "python"
    paths = [_path_record(file, described[file.path], placeholder) for file in files]
    about: dict[str, Any] = {"home": metadata.home, "license": metadata.license, "summary": metadata.summary}
    if licences:
        about["license_file"] = licences
    info = {
        "info/index.json": _json(index),
        "info/paths.json": _json({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{file.path}\n" for file in files).encode(),
        "info/about.json": _json(about),
    }
    prefixed = [f"{placeholder} {file.prefix_mode} {file.path}\n" for file in files if file.prefix_mode]
    if prefixed:
        info["info/has_prefix"] = "".join(prefixed).encode()
    if metadata.noarch_python:
        noarch = {"type": "python", "entry_points": list(metadata.entry_points)}
        info["info/link.json"] = _json({"noarch": noarch, "package_metadata_version": 1})
    return info


def _path_record(file: PackageFile, described: tuple[str, int], placeholder: str) -> dict[str, Any]:
    sha256, size = described
    record: dict[str, Any] = {
        "_path": file.path,
        "path_type": "softlink" if isinstance(file.source, Link) else "hardlink",
        "sha256": sha256,
        "size_in_bytes": size,
    }
    if file.prefix_mode:
        record["file_mode"] = file.prefix_mode
        record["prefix_placeholder"] = placeholder
    return record


def _add_bytes(tar: tarfile.TarFile, path: str, source: Source, *, executable: bool, epoch: int) -> str:
    entry = _tar_entry(path, epoch)
    entry.size = source.size
    entry.mode = 0o755 if executable else 0o644
    with source.open() as stream:
        hashing = _Hashing(stream)
        tar.addfile(entry, hashing)
    return hashing.hexdigest()


def _tar_entry(path: str, epoch: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mtime = epoch
    return entry


class _Hashing:
    """Reads a stream and hashes what was read, so that each file is read once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._sha256.update(data)
        return data

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


@contextmanager
def _zip_member(archive: zipfile.ZipFile, name: str, epoch: int) -> Iterator[IO[bytes]]:
    # zip knows no time before 1980
    moment = time.gmtime(max(epoch, 315_532_800))
    member = zipfile.ZipInfo(name, date_time=moment[:6])
    member.external_attr = 0o644 << 16
    with archive.open(member, "w", force_zip64=True) as stream:
        yield stream


@contextmanager
def _tar_member(archive: zipfile.ZipFile, name: str, epoch: int) -> Iterator[tarfile.TarFile]:
    compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL, write_checksum=True)
    with (
        _zip_member(archive, name, epoch) as member,
        compressor.stream_writer(member, closefd=False) as compressed,
        tarfile.open(fileobj=compressed, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar,
    ):
        yield tar


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
