"""The list of all host checks, and what follows from it: names of requirements, and how they are stated."""

from __future__ import annotations

from envpack.runtime.format.manifest import Manifest
from envpack.runtime.host.checks import gpu, libraries, system
from envpack.runtime.host.minimum import Minimum
from envpack.runtime.host.requirements import Requirements

CHECKS = (*system.CHECKS, *libraries.CHECKS, *gpu.CHECKS)
"""Every check of a host, in display order."""

REQUIREMENTS = tuple(check.name for check in CHECKS)
"""Every requirement that a verdict can be about, in display order; also the names that can be allowed."""

FORMS = {check.name: check.form for check in CHECKS if check.form is not None}
"""Every requirement that a spec can state, with the form of its value."""


def parse_need(name: str, text: str) -> Minimum:
    """Parse one requirement, with or without a leading ``>=``.

    Raises:
        KeyError: A spec can't state a requirement of this name.
        ValueError: The text is not valid; the message says what was expected.
    """
    return FORMS[name].minimum(text)


def wanted_of(manifest: Manifest) -> Requirements:
    """Return the requirements of the bundle with this manifest."""
    read = {name: _read(name, text) for name, text in manifest.requires.items()}
    return Requirements(
        title=f"{manifest.name} {manifest.version}",
        subdir=manifest.subdir,
        stated={name: need for name, need in read.items() if need is not None},
        unreadable={name: manifest.requires[name] for name, need in read.items() if need is None},
        needs=manifest.needs,
        torch=any(package.name in ("torch", "pytorch") for package in manifest.packages),
        size=max(manifest.size, manifest.needs.disk),
    )


def _read(name: str, text: str) -> Minimum | None:
    try:
        return parse_need(name, text)
    except (KeyError, ValueError):
        return None
