"""Hashes that a pip section states for its packages: no other file is locked.

uv compares them only when it installs, and a lock has the hashes of the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from envpack.lock.included_files import stated_hashes
from envpack.runtime.errors import BuildError
from envpack.spec.pip_lines import PipLine

_ARCHIVES = ("wheels", "sdist", "archive")


@dataclass(frozen=True)
class StatedHashes:
    """The hashes of a pip section.

    Attributes:
        hashes: ``ALGORITHM:HEX`` by what `stated_hashes` names the package by.
        required: Whether every package must have one, as ``--require-hashes`` says.

    Source: https://pip.pypa.io/en/stable/topics/secure-installs/#hash-checking-mode
    """

    hashes: Mapping[str, set[str]]
    required: bool = False

    @classmethod
    def of(cls, lines: Iterable[PipLine], folder: Path) -> StatedHashes:
        """Return those of a pip section, whose relative paths start at ``folder``."""
        lines = list(lines)
        required = any(line.option == "--require-hashes" for line in lines)
        return cls(stated_hashes(lines, folder), required)

    def allowed(self, package: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one of the ``[[packages]]`` of a pylock.toml (PEP 751) with the allowed files only.

        Raises:
            BuildError: No file of the package has one of its hashes.
        """
        name = canonicalize_name(package["name"])
        archive = package.get("archive", {})
        place = archive.get("url") or archive.get("path", "").rpartition("/")[2]
        expected = self.hashes.get(name) or self.hashes.get(place)
        if expected is None:
            if self.required:
                raise BuildError(
                    f"--require-hashes is set, and the pip section states no hash for {name}",
                    hint=f"Add '{name}==VERSION --hash=sha256:HEX', or remove --require-hashes.",
                )
            return package
        files = {key: package[key] for key in _ARCHIVES if key in package}
        kept: dict[str, Any] = {key: value for key, value in package.items() if key not in files}
        for key, value in files.items():
            matching = [file for file in (value if key == "wheels" else [value]) if _has(file, expected)]
            if matching:
                kept[key] = matching if key == "wheels" else matching[0]
        if not any(key in kept for key in _ARCHIVES):
            _require_comparable(name, files, expected)
            raise BuildError(
                f"no file of {name} {package.get('version', '')} has a hash that the pip section states for it",
                hint="Correct the --hash in the pip section, if the file at its index or URL is the right one.",
                details=[f"stated: {text}" for text in sorted(expected)],
            )
        return kept


def _require_comparable(name: str, files: Mapping[str, Any], expected: set[str]) -> None:
    """Raise BuildError where the index states hashes of other algorithms only: most state SHA-256 and no other."""
    listed = [file for key, value in files.items() for file in (value if key == "wheels" else [value])]
    known = {algorithm for file in listed for algorithm in file.get("hashes", {})}
    stated = {text.partition(":")[0] for text in expected}
    if known and not known & stated:
        raise BuildError(
            f"the hashes of {name} can't be compared: the pip section states {' and '.join(sorted(stated))}, "
            f"and its index {' and '.join(sorted(known))}",
            hint=f"State --hash={min(known, key=lambda algorithm: algorithm != 'sha256')}:HEX in the pip section.",
        )


def _has(file: Mapping[str, Any], expected: set[str]) -> bool:
    return any(f"{algorithm}:{digest}".lower() in expected for algorithm, digest in file.get("hashes", {}).items())
