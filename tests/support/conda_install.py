"""Environments installed for real: by rattler, from channels of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import rattler

from envpack.runtime.host.detect.machine import host_subdir


def conda_install(
    channels: Sequence[str], prefix: Path, packages: Sequence[str], cache: Path, *, only: Collection[str] = ()
) -> None:
    """Installs ``packages``, and what they need, into ``prefix``; of these just ``only``, if any are given."""

    async def run() -> None:
        records = await rattler.solve(
            [rattler.Channel(channel) for channel in channels],
            list(packages),
            platforms=[host_subdir(), "noarch"],  # type: ignore[list-item]
            virtual_packages=rattler.VirtualPackage.detect(),
        )
        records = [record for record in records if not only or record.name.normalized in only]
        await rattler.install(records, prefix, cache_dir=cache, show_progress=False)

    asyncio.run(run())
