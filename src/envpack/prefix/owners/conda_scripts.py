"""Scripts of packages that stand where a bundle has its own: conda's ``bin/activate`` and ``bin/deactivate``.

They are packed beside, as ``bin/activate.conda``. Both work under any name: the folder of the installation stands
in them (conda/core/initialize.py, ``install_activate``).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path

from envpack.prefix.owners.conda_meta import Claim
from envpack.prefix.scan.walk import Tree, facts_of

SUFFIX = ".conda"

_CONDA_S = b"_CONDA_ROOT="
"""In every activate and deactivate of conda's since 4.4 (conda/shell/bin), edited or not."""


def keep_scripts(
    tree: Tree,
    prefix: Path,
    claims: Mapping[str, Claim],
    proves: Callable[[str, Claim], bool],
    keeps: Callable[[str], bool] | None,
) -> dict[str, str]:
    """Puts scripts that conda packages claim, and that the bundle's own would hide, into ``tree`` under another
    name; the names by path.

    In a deployment they have that name already, while conda, once it is updated there, writes to the old one.
    """
    kept = {}
    for path in tree.generated:
        if path not in claims:
            continue
        name = f"{path}{SUFFIX}"
        if proves(path, claims[path]) or _is_conda_s(prefix / path):
            if keeps is not None and not keeps(name):
                continue
            tree.files[name] = facts_of(os.stat(prefix / path))
            tree.places[name] = posixpath.join(str(prefix), path)
            tree.links.pop(name, None)
        if name in tree.files:
            kept[path] = name
    return kept


def renamed(claims: Mapping[str, Claim], kept: Mapping[str, str]) -> Mapping[str, Claim]:
    """The claims, by the paths where what they claim is packed."""
    if not kept.keys() & claims.keys():
        return claims
    return {kept.get(path, path): claim for path, claim in claims.items()}


def _is_conda_s(place: Path) -> bool:
    return place.is_file() and _CONDA_S in place.read_bytes()[:4096]
