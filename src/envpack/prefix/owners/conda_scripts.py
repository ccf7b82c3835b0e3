"""Package scripts at paths where a bundle has its own scripts: conda's ``bin/activate`` and ``bin/deactivate``.

They are packed as siblings, such as ``bin/activate.conda``. Both work under any name: they contain the folder of
the installation (conda/core/initialize.py, ``install_activate``).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path

from envpack.prefix.owners.conda_meta import Claim
from envpack.prefix.scan.walk import Tree, file_stat
from envpack.runtime.fs.io import read_file

SUFFIX = ".conda"

_CONDA_S = b"_CONDA_ROOT="
"""Part of every activate and deactivate of conda since 4.4 (conda/shell/bin), edited or not."""


def keep_scripts(
    tree: Tree,
    prefix: Path,
    claims: Mapping[str, Claim],
    proves: Callable[[str, Claim], bool],
    keeps: Callable[[str], bool] | None,
) -> dict[str, str]:
    """Add to ``tree``, under another name, the scripts of conda packages that the bundle's own scripts would hide.

    In a deployment they have that name already, while conda, once it is updated there, writes to the old one.

    Args:
        tree: The environment's tree, which is changed.
        prefix: The environment's folder.
        claims: The claims of conda packages on these paths.
        proves: Returns whether the file at a path is the one of that claim.
        keeps: Returns whether a path is packed; None packs all.

    Returns:
        The new names, by original path.
    """
    kept = {}
    for path in tree.generated:
        if path not in claims:
            continue
        name = f"{path}{SUFFIX}"
        if proves(path, claims[path]) or _is_conda_s(prefix / path):
            if keeps is not None and not keeps(name):
                continue
            tree.files[name] = file_stat(os.stat(prefix / path))
            tree.places[name] = posixpath.join(str(prefix), path)
            tree.links.pop(name, None)
        if name in tree.files:
            kept[path] = name
    return kept


def renamed(claims: Mapping[str, Claim], kept: Mapping[str, str]) -> Mapping[str, Claim]:
    """Return the claims by the paths under which their files are packed."""
    if not kept.keys() & claims.keys():
        return claims
    return {kept.get(path, path): claim for path, claim in claims.items()}


def _is_conda_s(place: Path) -> bool:
    return place.is_file() and _CONDA_S in read_file(place, 4096)
