"""Conda packages written by hand, and a channel of them: what no wheel and no interpreter gives."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path

from rattler.index import index_fs

from channel_maker.package import (
    FileMode,
    Inline,
    Link,
    PackageFile,
    PackageIdentity,
    PackageMetadata,
    placeholder_for,
    write_conda,
)

EPOCH = 1_704_067_200
SHORT = "/opt/anaconda1anaconda2anaconda3"
"""The placeholder of packages before conda-build 2, and of those whose recipes ask for no long one."""


class Channel:
    """A channel in ``folder``. Files are given by path: bytes or text, in which ``@PREFIX@`` is the placeholder;
    text that begins with ``->`` is a link's target. Those in ``bin`` and ``condabin`` are executable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "noarch").mkdir(parents=True)

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def add(
        self,
        name: str,
        files: Mapping[str, str | bytes],
        *,
        subdir: str = "noarch",
        depends: Collection[str] = (),
        noarch: str = "",
        entry_points: Collection[str] = (),
        version: str = "1.0",
    ) -> None:
        """Add a package in the current format."""
        placeholder = placeholder_for(name, EPOCH)
        identity = PackageIdentity(name, version, "h0_0", subdir)
        metadata = PackageMetadata(
            tuple(depends),
            noarch_python=noarch == "python",
            entry_points=tuple(entry_points),
            index_extra={"noarch": noarch} if noarch else {},
        )
        (self.folder / subdir).mkdir(exist_ok=True)
        write_conda(
            self.folder / subdir / identity.file_name,
            identity,
            metadata,
            [_file(path, content, placeholder) for path, content in files.items()],
            placeholder=placeholder,
            epoch=EPOCH,
        )

    def add_old(self, name: str, files: Mapping[str, str | bytes], *, subdir: str) -> None:
        """Add a package as before conda-build 2: .tar.bz2, without paths.json and with the short placeholder."""
        made = [_file(path, content, SHORT) for path, content in files.items()]
        index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": subdir}
        prefixed = [file for file in made if file.prefix_mode is not None]
        has_prefix = [
            file.path if file.prefix_mode == "text" else f"{SHORT} binary {file.path}" for file in prefixed
        ]
        info = {
            "info/index.json": json.dumps(index),
            "info/files": "".join(f"{file.path}\n" for file in made),
            "info/has_prefix": "".join(f"{line}\n" for line in has_prefix),
        }
        (self.folder / subdir).mkdir(exist_ok=True)
        with tarfile.open(self.folder / subdir / f"{name}-1.0-0.tar.bz2", "w:bz2") as archive:
            for path, text in info.items():
                _add(archive, path, text.encode(), False)
            for file in made:
                assert isinstance(file.source, Inline)
                _add(archive, file.path, file.source.data, file.executable)

    def index(self) -> str:
        """Write the index; return the channel's URL."""
        asyncio.run(index_fs(self.folder))
        return self.url


def _file(path: str, content: str | bytes, placeholder: str) -> PackageFile:
    executable = path.split("/")[0] in ("bin", "condabin", "python-scripts")
    if isinstance(content, str) and content.startswith("->"):
        return PackageFile(path, Link(content.removeprefix("->").strip()), executable)
    mode: FileMode | None = None
    data = content.encode() if isinstance(content, str) else content
    if b"@PREFIX@" in data:
        mode = "binary" if b"\0" in data else "text"
        data = data.replace(b"@PREFIX@", placeholder.encode())
    elif placeholder.encode() in data:
        mode = "binary"  # compiled with it
    return PackageFile(path, Inline(data), executable, mode)


def _add(archive: tarfile.TarFile, path: str, data: bytes, executable: bool) -> None:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.mtime = len(data), 0o755 if executable else 0o644, EPOCH
    archive.addfile(info, io.BytesIO(data))
