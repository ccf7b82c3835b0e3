"""Names and versions that exist, for dependencies that no package of the channels satisfies."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from envpack.runtime.transport.redact import without_secrets

if TYPE_CHECKING:
    from rattler import Channel, Gateway, MatchSpec, RepoDataRecord, Subdir

_SHOWN = 8
"""Versions that are listed, the newest first."""


async def suggestions(
    gateway: Gateway, channels: Sequence[Channel], platforms: Sequence[Subdir], specs: Sequence[MatchSpec]
) -> list[str]:
    """Return a line for each dependency that no package satisfies, with near names or the versions there are.

    Args:
        gateway: The access to the channels.
        channels: The channels, in order.
        platforms: The platforms to search.
        specs: The dependencies.
    """
    known = {name.normalized for name in await gateway.names(list(channels), list(platforms))}
    found = []
    for spec in specs:
        name = spec.name.normalized if spec.name is not None else ""
        if not name or name.startswith("__"):
            continue
        if name not in known:
            found.append(_unknown(name, known))
            continue
        answer = await gateway.query(list(channels), list(platforms), [type(spec)(name)], recursive=False)
        records = [record for part in answer for record in part]
        if not any(spec.matches(record) for record in records):
            found.append(
                f"{without_secrets(str(spec))} matches none of the versions of {name}: {_versions(records)}"
            )
    return found


def _unknown(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.7)
    if near:
        return f"no channel has a package called {name}; did you mean {' or '.join(near)}?"
    return f"no channel has a package called {name}; a package of PyPI belongs in the 'pip:' list"


def _versions(records: Sequence[RepoDataRecord]) -> str:
    versions = sorted({record.version for record in records}, reverse=True)
    more = f" and {len(versions) - _SHOWN} older" if len(versions) > _SHOWN else ""
    return ", ".join(map(str, versions[:_SHOWN])) + more
