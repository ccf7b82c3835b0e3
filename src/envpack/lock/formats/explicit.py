"""Lists of URLs that conda writes and reads: ``conda list --explicit``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from envpack.lock.formats.package_urls import (
    find_records,
    package_channels,
    parse_package_url,
)
from envpack.lock.locations import with_variables
from envpack.lock.model import Lock, LockedPlatform, locked_requirement, named_after
from envpack.lock.target import current_platform
from envpack.runtime.errors import SpecError
from envpack.runtime.transport.redact import without_secrets
from envpack.spec.model import PLATFORMS

_PIP = re.compile(r"# pip (?=[\w.-]+(?:\[[^]]*\])?\s*[@=])")


def explicit_lock(text: str, path: Path) -> Lock:
    """Return the lock for an ``@EXPLICIT`` list (``conda list --explicit [--md5|--sha256]``).

    In one of ``conda-lock --kind explicit``, comments ``# pip NAME @ URL`` are packages, too
    (conda_lock/conda_lock.py, ``render_lockfile_for_platform``).
    """
    packages, pypi, errors = [], [], []
    for number, line in enumerate(text.splitlines(), 1):
        line, where = line.strip(), f"{path}:{number}"
        if match := _PIP.match(line):
            try:
                pypi.append(locked_requirement(with_variables(line[match.end() :]), path.parent))
            except ValueError as error:
                errors.append(f"{where}: {without_secrets(str(error))}")
            continue
        if not line or line.startswith("#") or line == "@EXPLICIT":
            continue
        package = parse_package_url(line, where, path.absolute().parent)
        if package is None:
            line = without_secrets(line)
            errors.append(
                f"{where}: {line!r}, expected the URL of a .conda or .tar.bz2 package, optionally with #HASH"
            )
        else:
            packages.append(package)
    if errors:
        raise SpecError(errors[0], details=errors)
    stated = _platform((package.subdir for package in packages if package.in_channel), path)
    records = find_records(packages, stated or current_platform())
    platform = _platform((stated, *(record.subdir for record in records)), path) or current_platform()
    pypi.sort(key=lambda package: package.name)
    locked = LockedPlatform(records, tuple(pypi))
    return Lock(named_after(path), package_channels(packages), {platform: locked})


def _platform(subdirs: Iterable[str], path: Path) -> str:
    """Return the one platform of packages, "" where all are for any platform."""
    found = sorted({*subdirs} - {"noarch", ""})
    if len(found) > 1 or (found and found[0] not in PLATFORMS):
        raise SpecError(f"{path} contains packages for {', '.join(found)}, expected one of {', '.join(PLATFORMS)}")
    return found[0] if found else ""


def explicit_text(platform: LockedPlatform, name: str) -> str:
    """Return the ``@EXPLICIT`` list of a platform's conda packages, for conda, mamba and micromamba."""
    lines = [f"# platform: {name}", "@EXPLICIT"]
    for record in platform.conda:
        digest = record.md5.hex() if record.md5 else ""
        lines.append(f"{record.url}#{digest}" if digest else record.url)
    return "\n".join(lines) + "\n"
