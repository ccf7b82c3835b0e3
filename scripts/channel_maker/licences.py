"""The licence texts of libraries that a distribution installed, as its package manager knows them."""

from __future__ import annotations

import re
from pathlib import Path

from channel_maker.tools import find_tool, run

# Debian Policy 12.5: a copyright file may name these instead of quoting them.
_COMMON = re.compile(rb"/usr/share/common-licenses/[A-Za-z0-9][A-Za-z0-9.+-]*[A-Za-z0-9+]")


def find_licences(library: Path) -> dict[str, Path]:
    """Return the licence files of the package that installed ``library``, by their path in the folder of licences.

    Empty when no package manager knows the file, or its package has no licence text.
    """
    path = library.resolve()
    return _of_dpkg(path) or _of_rpm(path)


def _of_dpkg(path: Path) -> dict[str, Path]:
    dpkg = find_tool("dpkg-query")
    if dpkg is None:
        return {}
    # where /lib is a link to /usr/lib, packages may still have been made with the short spelling
    # (https://wiki.debian.org/UsrMerge)
    spellings = [str(path), str(path).removeprefix("/usr")]
    owners = [
        owner.split(":")[0]
        for line in run([dpkg, "--search", *spellings]).stdout.splitlines()
        if not line.startswith("diversion ")
        for owner in line.rpartition(": ")[0].split(", ")
    ]
    found: dict[str, Path] = {}
    for owner in owners:
        text = Path("/usr/share/doc", owner, "copyright")
        if text.is_file():
            found[f"{owner}/copyright"] = text
            for name in sorted(set(_COMMON.findall(text.read_bytes()))):
                common = Path(name.decode())
                if common.is_file():
                    found[f"common-licenses/{common.name}"] = common
    return found


def _of_rpm(path: Path) -> dict[str, Path]:
    rpm = find_tool("rpm")
    if rpm is None:
        return {}
    answer = run([rpm, "--query", "--licensefiles", "--file", path])
    texts = [Path(line) for line in answer.stdout.splitlines() if line.startswith("/")]
    return {f"{text.parent.name}/{text.name}": text for text in texts if text.is_file()}
