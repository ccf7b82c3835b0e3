"""Environments put together on disk from what their packages would have installed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from envpack.prefix.inventory import read_prefix
from envpack.prefix.needs.derive import derive_needs
from envpack.runtime.format.needs import DetectedNeeds
from envpack.runtime.report import Reporter

SITE = "lib/python3.11/site-packages"


class Environment:
    """An environment at ``prefix``, empty at first. Paths of wheels start at site-packages."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        (prefix / "conda-meta").mkdir(parents=True)

    def file(self, path: str, data: bytes | str) -> str:
        place = self.prefix / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def wheel(self, name: str, version: str, files: dict[str, bytes | str] | None = None) -> None:
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        written = [self.file(f"{SITE}/{path}", data) for path, data in (files or {}).items()]
        self.file(f"{SITE}/{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        self.file(f"{SITE}/{info}/INSTALLER", "pip\n")
        rows = [f"{path.removeprefix(SITE + '/')},," for path in written]
        rows += [f"{info}/{file},," for file in ("METADATA", "INSTALLER", "RECORD")]
        self.file(f"{SITE}/{info}/RECORD", "\n".join(rows) + "\n")

    def conda(
        self,
        name: str,
        version: str,
        build: str = "0",
        *,
        depends: Iterable[str] = (),
        constrains: Iterable[str] = (),
        subdir: str = "linux-64",
        files: dict[str, bytes | str] | None = None,
    ) -> None:
        written = [self.file(path, data) for path, data in (files or {}).items()]
        record = {
            "name": name,
            "version": version,
            "build": build,
            "subdir": subdir,
            "depends": list(depends),
            "constrains": list(constrains),
            "files": written,
        }
        self.file(f"conda-meta/{name}-{version}-{build}.json", json.dumps(record))

    def needs(self, reporter: Reporter | None = None) -> DetectedNeeds:
        reporter = reporter or Reporter()
        return derive_needs(read_prefix(self.prefix, reporter=reporter), reporter)
