"""Environments with the records that conda itself writes, which differ from those of rattler and mamba.

After conda/core/path_actions.py and conda/history.py of conda 26: a noarch: python package's files are recorded
under their paths in the package, its byte-code and entry points under those in the environment, entry points
without a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

PLACEHOLDER = "/opt/conda/conda-bld/demo_1/_h_env_" + "placehold_" * 20
SITE_PACKAGES = "lib/python3.11/site-packages"

_ENTRY_POINT = """\
#!{prefix}/bin/python3.11
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {function}

if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
    sys.exit({function}())
"""


class CondaEnvironment:
    """An environment at ``prefix`` that conda fills; ``install`` is ``conda install`` of one package."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        (prefix / "conda-meta").mkdir(parents=True, exist_ok=True)
        (prefix / "conda-meta/history").touch()

    def install(
        self,
        name: str,
        files: Mapping[str, bytes],
        *,
        noarch: bool = False,
        entry_points: Collection[str] = (),
        compiled: Collection[str] = (),
        **fields: Any,
    ) -> Path:
        """Install a package of ``files``, by their paths in the package, and write its record.

        Args:
            name: The package's name; its version is 1.0.
            files: The files; those in which PLACEHOLDER stands are text to be patched.
            noarch: Whether it is a noarch: python package.
            entry_points: Its entry points, such as ``tool = mod:main``; with ``noarch`` only.
            compiled: Sources, by paths in the package, whose byte-code is recorded (it is not written).
            fields: More fields of the record.
        """
        links = [(self._path(path, noarch), self._link(path, data, noarch)) for path, data in files.items()]
        links += [self._compiled(path) for path in compiled]
        links += [self._entry_point(definition) for definition in entry_points]
        subdir = "noarch" if noarch else "linux-64"
        dist = f"{name}-1.0-0"
        record = {
            "name": name, "version": "1.0", "build": "0", "build_number": 0, "subdir": subdir, "arch": None,
            "platform": None, "channel": f"https://conda.example/main/{subdir}", "fn": f"{dist}.conda",
            "url": f"https://conda.example/main/{subdir}/{dist}.conda", "depends": [], "constrains": [],
            "extracted_package_dir": f"/opt/conda/pkgs/{dist}",
            "package_tarball_full_path": f"/opt/conda/pkgs/{dist}.conda",
            "link": {"source": f"/opt/conda/pkgs/{dist}", "type": 1}, "requested_spec": name,
            **({"noarch": "python", "package_type": "noarch_python"} if noarch else {}),
            "files": [path for path, _ in links],
            "paths_data": {"paths_version": 1, "paths": [item for _, item in links]}, **fields,
        }  # fmt: skip
        place = self.prefix / f"conda-meta/{dist}.json"
        place.write_text(json.dumps(record, indent=2, sort_keys=True))
        return place

    def _path(self, path: str, noarch: bool) -> str:
        if noarch and path.startswith("site-packages/"):
            return path.replace("site-packages", SITE_PACKAGES, 1)
        if noarch and path.startswith("python-scripts/"):
            return path.replace("python-scripts", "bin", 1)
        return path

    def _write(self, path: str, data: bytes) -> None:
        place = self.prefix / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        place.chmod(0o755 if path.startswith("bin/") else 0o644)

    def _link(self, path: str, data: bytes, noarch: bool) -> dict[str, Any]:
        placeholder = PLACEHOLDER.encode()
        installed = data.replace(placeholder, os.fsencode(self.prefix))
        self._write(self._path(path, noarch), installed)
        patched = {"file_mode": "text", "prefix_placeholder": PLACEHOLDER} if placeholder in data else {}
        digest = hashlib.sha256(data).hexdigest()
        in_prefix = hashlib.sha256(installed).hexdigest()
        item = {"_path": path, "path_type": "hardlink", "sha256": digest, "sha256_in_prefix": in_prefix}
        return {**item, "size_in_bytes": len(data), **patched}

    def _compiled(self, path: str) -> tuple[str, dict[str, Any]]:
        folder, _, name = self._path(path, True).rpartition("/")
        target = f"{folder}/__pycache__/{name[:-3]}.cpython-311.pyc"
        return target, {"_path": target, "path_type": "pyc_file"}

    def _entry_point(self, definition: str) -> tuple[str, dict[str, Any]]:
        command, _, place = (part.strip() for part in definition.partition("="))
        module, _, function = place.partition(":")
        text = _ENTRY_POINT.format(prefix=self.prefix, module=module, function=function).encode()
        self._write(f"bin/{command}", text)
        item = {"_path": f"bin/{command}", "path_type": "unix_python_entry_point", "size_in_bytes": len(text)}
        return f"bin/{command}", item
