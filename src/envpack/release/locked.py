"""The packages of a lock, as a bill of materials lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from packaging.utils import canonicalize_name

from envpack.contents.described import Locked
from envpack.contents.inventory import Distribution, Installed, dependency_names
from envpack.lock.inputs import input_format, load_input
from envpack.lock.locations import split_subdirectory
from envpack.lock.model import Lock, LockedPlatform, LockedPypi
from envpack.lock.target import current_platform
from envpack.prefix.owners.conda_meta import record_package
from envpack.prefix.owners.pypi import Origin, origin
from envpack.runtime.errors import SpecError
from envpack.runtime.format.manifest import Package
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.spec.nodes import read_text


class LockInventory(NamedTuple):
    """The packages of a lock; as `envpack.contents.read.Inventory`, with the digest of the lock."""

    locked: Locked
    lock_sha256: str
    installed: list[Installed]


def is_lock(path: Path) -> bool:
    """Return whether a text file is a lock in a known format, by its content."""
    try:
        return input_format(read_text(path)) != "spec"
    except SpecError:
        return False


def read_lock_inventory(path: Path, platform: str | None = None, environment: str | None = None) -> LockInventory:
    """Return the packages of a lock for one platform.

    Args:
        path: A lock in any format that `load_input` reads.
        platform: conda's platform; None for the only one, or else that of this machine.
        environment: The environment of a pixi.lock; None for the only one, or else "default".

    Raises:
        SpecError: The lock is not valid, or not for this platform.
        UsageError: An environment is given, and the lock has no named ones.
        BuildError: Packages of an ``@EXPLICIT`` or conda-lock file can't be found in their channel.
    """
    lock = load_input(path, environment)
    if not isinstance(lock, Lock):
        raise SpecError(f"{path} is not a lock", hint=f"Make one with 'envpack lock {path}'.")
    platform = platform or lock.only_platform or current_platform()
    packages = lock.platform(platform)
    spec = lock.spec
    locked = Locked(spec.name, spec.version, platform, _newest(packages))
    return LockInventory(locked, hashlib.sha256(read_file(path)).hexdigest(), _installed(packages, path))


def _newest(platform: LockedPlatform) -> int:
    times = [record.timestamp for record in platform.conda if record.timestamp]  # rattler gives 0 for 1970
    return int(max(times).timestamp()) if times else 0


def _installed(platform: LockedPlatform, path: Path) -> list[Installed]:
    found = []
    for record in platform.conda:
        document = json_value(record.to_json())
        try:
            package, depends = record_package(document), dependency_names(document.get("depends") or ())
        except (ValueError, AttributeError) as problem:
            raise SpecError(f"{path}: {record.name.source}: {problem}", hint="Lock again.") from None
        found.append(Installed(package, depends, ()))
    for locked in platform.pypi:
        segment = f"pypi:{canonicalize_name(locked.name)}-{locked.version}"
        package = Package("pypi", locked.name, locked.version, **origin_of(locked)._asdict(), segment=segment)
        found.append(Installed(package, frozenset(), (Distribution(package),)))
    return found


def origin_of(package: LockedPypi) -> Origin:
    """Return where a package comes from, as its installed distribution records it; nothing for a folder."""
    if package.location.startswith("/"):
        return Origin()
    url, subdirectory = split_subdirectory(package.location)
    if not url.startswith("git+"):
        return origin(url, package.sha256, subdirectory=subdirectory)
    url, _, commit = url.removeprefix("git+").rpartition("@")
    return origin(url, commit=commit, subdirectory=subdirectory)
