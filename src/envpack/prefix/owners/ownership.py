"""The owner of each path of an environment. Pure: files are read only through the callback ``proves``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from envpack.prefix.owners.conda_meta import Claim

Owner = int
"""The index of a package: conda records first, then distributions, each sorted by name."""


@dataclass(frozen=True)
class Ownership:
    """The owners of an environment's paths.

    Attributes:
        owners: The owner of each path and the claim that won. Paths without an owner are not in it.
        missing: Claimed paths that do not exist.
        replaced: Paths of a conda package that another package overwrote.
        useless: Byte-code files in ``__pycache__`` with neither a source nor an owner; not worth packing.
    """

    owners: Mapping[str, tuple[Owner, Claim]]
    missing: tuple[str, ...]
    replaced: tuple[str, ...]
    useless: frozenset[str]


def assign(
    paths: Collection[str],
    claims: Sequence[Mapping[str, Claim]],
    conda: int,
    proves: Callable[[str, Claim], bool],
) -> Ownership:
    """Assign an owner to each of ``paths``.

    A path with several claims belongs to the last package for which ``proves(path, claim)`` holds: that package
    installed the file. If it holds for none, the path belongs to the last package. Conda's packages come before
    pip's, because pip runs in environments that conda made. Byte-code gets the owner of its source.

    Args:
        paths: The paths that exist.
        claims: The claims of every package, by path.
        conda: The number of conda records, which are the first of ``claims``.
        proves: Returns whether the file at a path is the one of that claim.
    """
    owners: dict[str, tuple[Owner, Claim]] = {}
    contested: dict[str, list[tuple[Owner, Claim]]] = {}
    missing: set[str] = set()
    for owner, claimed in enumerate(claims):
        for path, claim in claimed.items():
            if path not in paths:
                if claim.expected:
                    missing.add(path)
            elif path in owners:
                contested.setdefault(path, [owners[path]]).append((owner, claim))
            else:
                owners[path] = owner, claim
    replaced = set()
    for path, candidates in contested.items():
        owners[path] = next((c for c in reversed(candidates) if proves(path, c[1])), candidates[-1])
        if any(owner < conda and owner != owners[path][0] for owner, _ in candidates):
            replaced.add(path)
    useless = _follow_sources(paths, owners)
    return Ownership(owners, tuple(sorted(missing)), tuple(sorted(replaced)), frozenset(useless))


def _follow_sources(paths: Collection[str], owners: dict[str, tuple[Owner, Claim]]) -> list[str]:
    useless = []
    for path in paths:
        if not path.endswith(".pyc"):
            continue
        source = source_of(path)
        mine = owners.get(path)
        if source not in paths:
            if mine is None and posixpath.basename(posixpath.dirname(path)) == "__pycache__":
                useless.append(path)
        elif source not in owners:
            owners.pop(path, None)
        elif mine is None or mine[0] != owners[source][0]:
            owners[path] = owners[source][0], Claim()
    return useless


# "module.cpython-311.opt-1.pyc"; pytest writes "test.cpython-311-pytest-8.2.0.pyc"
_TAGGED = re.compile(r"(.+?)\.(?:cpython|pypy|graalpy)-?\d")


def source_of(path: str) -> str:
    """Return the source of a byte-code file: by PEP 3147 in ``__pycache__``, else the file beside it.

    >>> source_of("lib/a/__pycache__/b.cpython-311.opt-1.pyc"), source_of("lib/c.pyc")
    ('lib/a/b.py', 'lib/c.py')
    """
    folder, _, name = path.rpartition("/")  # called often; posixpath takes four times as long
    above, _, last = folder.rpartition("/")
    if last != "__pycache__":
        return path[:-1]
    tagged = _TAGGED.match(name)
    stem = tagged.group(1) if tagged else name.partition(".")[0]
    return f"{above}/{stem}.py" if above else f"{stem}.py"
