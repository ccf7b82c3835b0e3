"""Small archives as conda-pack makes them, of given members, for tests that need no environment's weight."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from envpack.interop.deploy import deploy_archive
from envpack.runtime.commands.deploy import Deployment
from envpack.runtime.report import Reporter

BUILD_PREFIX = "/home/somebody/envs/demo"
Add = Callable[[tarfile.TarFile], None]


def record(name: str, files: Iterable[str] = (), **fields: object) -> bytes:
    """Return a conda-meta record of a package."""
    document = {"name": name, "version": "1.0", "build": "0", "subdir": "noarch", "files": list(files), **fields}
    return json.dumps(document).encode()


def unpack_script(*records: tuple[str, str, str], version: str = "0.9.2", before: str = "") -> bytes:
    """Return the text of bin/conda-unpack, as conda-pack writes it."""
    lines = ",\n".join(map(repr, records))
    return (
        f"#!/usr/bin/env python\n{before}\n_prefix_records = [\n{lines}\n]\n\n"
        f"if __name__ == '__main__':\n        print('conda-unpack {version}')\n"
    ).encode()


def file(path: str, data: bytes = b"", mode: int = 0o644, **fields: object) -> Add:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(data), mode
        for name, value in fields.items():
            setattr(info, name, value)
        archive.addfile(info, io.BytesIO(data))

    return add


def member(path: str, kind: bytes, target: str = "", **fields: object) -> Add:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(path)
        info.type, info.linkname = kind, target
        for name, value in fields.items():
            setattr(info, name, value)
        archive.addfile(info)

    return add


def link(path: str, target: str) -> Add:
    return member(path, tarfile.SYMTYPE, target)


ENVIRONMENT: tuple[Add, ...] = (
    file("bin/tool", f"#!/bin/sh\necho {BUILD_PREFIX}\n".encode(), 0o755),
    file("lib/data", b"data"),
    file("conda-meta/history", b""),
    file("conda-meta/demo-1.0-0.json", record("demo", ["lib/data"])),
)
UNPACK = file("bin/conda-unpack", unpack_script(("bin/tool", BUILD_PREFIX, "text")), 0o755)


def tar(path: Path, *members: Add, codec: str = "gz") -> Path:
    """Write a tar archive of an environment and ``members``, with conda-unpack last as conda-pack writes it."""
    with tarfile.open(path, f"w:{codec}", format=tarfile.PAX_FORMAT) as archive:
        for add in (*ENVIRONMENT, *members, UNPACK):
            add(archive)
    return path


def zipped(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    """Write the members as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conda-meta/demo-1.0-0.json", record("demo"))
        archive.writestr("bin/conda-unpack", unpack_script())
        for info, data in members:
            archive.writestr(info, data)
    return path


def deployed(archive: Path, destination: Path) -> Deployment:
    return deploy_archive(archive, destination, reporter=Reporter())
