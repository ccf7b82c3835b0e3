"""The priority of channels: which of them gives a package that several have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from envpack.spec.credentials import without_credentials

if TYPE_CHECKING:
    from rattler import Channel, ChannelPriority, Gateway, RepoDataRecord, Subdir

    Solve = Callable[[ChannelPriority], Awaitable[list[RepoDataRecord]]]

_SHOWN = 5
"""Packages that a note names."""


async def solve_with_priority(solve: Solve, stated: str) -> tuple[list[RepoDataRecord], bool]:
    """Return the packages that a solver finds, and whether it needed those of later channels.

    Args:
        solve: The solver.
        stated: The ``channel_priority`` of conda. "" is conda's default, ``flexible``: a later channel gives a
            package only where the first one with this package leads to no solution
            (https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-channels.html).

    Raises:
        SolverError: There is no solution.
    """
    from rattler import ChannelPriority
    from rattler.exceptions import SolverError

    if stated == "disabled":
        return await solve(ChannelPriority.Disabled), False
    try:
        return await solve(ChannelPriority.Strict), False
    except SolverError:
        if stated == "strict":
            raise
    # py-rattler before 0.28 has no Flexible
    return await solve(getattr(ChannelPriority, "Flexible", ChannelPriority.Disabled)), True


async def of_later_channels(
    records: Sequence[RepoDataRecord], gateway: Gateway, channels: Sequence[Channel], platforms: Sequence[Subdir]
) -> list[RepoDataRecord]:
    """Return the packages that a channel of a higher priority has, too."""
    earlier: set[str] = set()
    found: list[RepoDataRecord] = []
    for channel in channels:
        url = _comparable(channel.base_url)
        own = [record for record in records if _comparable(record.channel or "") == url]
        found.extend(record for record in own if record.name.normalized in earlier)
        earlier.update(name.normalized for name in await gateway.names([channel], list(platforms)))
    return found


def note_of_later_channels(records: Sequence[RepoDataRecord], spec_name: str, platform: str) -> str:
    """Return a note about the packages that `of_later_channels` found."""
    names = [
        f"{record.name.normalized} {record.version} of {_comparable(record.channel or '')}" for record in records
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (
        f"{spec_name} has no solution on {platform} with packages of the first channel that has them; as conda "
        f"does it by default (channel_priority: flexible), a later channel gives {', '.join(names[:_SHOWN])}{more}"
    )


def _comparable(url: str) -> str:
    return without_credentials(url).rstrip("/")
