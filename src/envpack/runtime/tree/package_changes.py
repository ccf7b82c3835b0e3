"""Packages that conda or pip installed in a deployment, or that conda removed from it, since it was deployed.

Only a few folders are listed, so that it takes no time even in a large tree: conda has a record for each package,
and pip writes new files, while the files of a bundle keep the times of their packages.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from envpack.runtime.errors import EnvpackError
from envpack.runtime.format.layout import MANIFEST_PATH
from envpack.runtime.format.manifest_json import manifest_from_json
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter
from envpack.runtime.tree.conda_digests import conda_records

_METADATA = ".dist-info"


@dataclass(frozen=True)
class PackageChanges:
    """The changes: each package as ``NAME VERSION``, sorted.

    Attributes:
        installed: the packages that were installed, also in place of another version.
        removed: the packages of the bundle that conda removed, also for another version.
    """

    installed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.installed or self.removed)

    def __str__(self) -> str:
        words = (("installed", self.installed), ("removed", self.removed))
        return "; ".join(f"{word} {', '.join(packages)}" for word, packages in words if packages)


def package_changes(root: Path, deployed: int) -> PackageChanges:
    """Return the changes of the packages in a deployment; none when its manifest can't be read.

    Args:
        root: folder of the deployment.
        deployed: when it was deployed, in seconds since 1970.
    """
    try:
        packages = manifest_from_json(read_file(root / MANIFEST_PATH)).packages
    except (OSError, EnvpackError):
        return PackageChanges((), ())
    ours = {f"{p.name}-{p.version}-{p.build}" for p in packages if p.kind == "conda"}
    there = {os.path.basename(path)[: -len(".json")] for path in conda_records(root)}
    installed = {_title(dist) for dist in there - ours}
    known = {(_normal(p.name), p.version) for p in packages if p.kind != "conda"}
    for name, version in _installed_by_pip(root, deployed):
        if (_normal(name), version) not in known:
            installed.add(f"{name} {version}")
    return PackageChanges(tuple(sorted(installed)), tuple(sorted(_title(dist) for dist in ours - there)))


def warn_of_lost_packages(root: Path, deployed: int, reporter: Reporter) -> None:
    """Warn of the changes in a deployment that another bundle replaces; arguments as of `package_changes`."""
    changes = package_changes(root, deployed)
    if changes:
        reporter.warn(
            f"packages were changed in {root} since it was deployed: {changes}. The new deployment does not have "
            "these changes, unless its bundle has them"
        )


def _title(dist: str) -> str:
    """Return ``NAME VERSION`` for the ``NAME-VERSION-BUILD`` of a conda package."""
    name, _, version = dist.rpartition("-")[0].rpartition("-")
    return f"{name} {version}" if name else dist


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # packaging.python.org, name normalization


def _installed_by_pip(root: Path, deployed: int) -> Iterator[tuple[str, str]]:
    for folder in sorted(root.glob("lib/python*/site-packages")):
        with suppress(OSError), os.scandir(folder) as listing:
            for entry in listing:
                if entry.name.endswith(_METADATA) and _is_pip_s(Path(entry.path), deployed):
                    name, _, version = entry.name[: -len(_METADATA)].partition("-")
                    yield name, version


def _is_pip_s(folder: Path, deployed: int) -> bool:
    """Return whether an installer other than conda wrote a distribution's metadata after a time."""
    with suppress(OSError):
        if os.lstat(folder / "RECORD").st_mtime <= deployed:
            return False
        return b"conda" not in read_file(folder / "INSTALLER", 64)
    return False
