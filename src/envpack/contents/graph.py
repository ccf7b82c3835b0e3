"""The dependencies between the packages of an environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from envpack.contents.inventory import Installed


def dependencies(installed: Sequence[Installed]) -> dict[str, list[str]]:
    """Return the segments of the packages that each package requires, by its segment.

    Sources are the records of conda packages and the metadata of distributions.
    """
    conda = {one.package.name: one.package.segment for one in installed if one.package.kind == "conda"}
    pypi = {
        distribution.name: one.package.segment
        for one in sorted(installed, key=lambda one: one.package.kind == "pypi")
        for distribution in one.distributions
    }
    return {
        one.package.segment: sorted(
            {
                target
                for target in (
                    *(conda.get(name, "") for name in one.depends),
                    *(pypi.get(name, "") for distribution in one.distributions for name in distribution.requires),
                )
                if target and target != one.package.segment
            }
        )
        for one in installed
    }


def roots(edges: Mapping[str, Collection[str]]) -> list[str]:
    """Return packages from which all others are reached: those that nothing requires, and one of each circle."""
    needed = {target for targets in edges.values() for target in targets}
    found = set(edges) - needed
    reached: set[str] = set()
    for start in (*sorted(found), *sorted(edges)):
        if start in reached:
            continue
        found.add(start)
        todo = [start]
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo += edges[name]
    return sorted(found)
