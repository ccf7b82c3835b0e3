"""The resolution of a spec to a lock: the conda part by rattler's solver, the pip section by uv."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.lock import rattler_async
from envpack.lock.conda.priority import note_of_later_channels, of_later_channels, solve_with_priority
from envpack.lock.conda.suggestions import suggestions
from envpack.lock.condarc import channel_settings
from envpack.lock.included_files import section_lines
from envpack.lock.model import Lock, LockedPlatform, LockedPypi
from envpack.lock.pip import BuildEnvironment, resolve_pip
from envpack.lock.target import (
    current_platform,
    spec_channels,
    split_channel,
    virtual_package_texts,
    virtual_packages,
    with_channel_url,
)
from envpack.runtime.errors import BuildError, UsageError
from envpack.runtime.report import Reporter
from envpack.runtime.transport.redact import without_secrets
from envpack.spec.model import PLATFORMS, EnvSpec

if TYPE_CHECKING:
    from rattler import Channel, ChannelPriority, MatchSpec, RepoDataRecord

Link = Callable[[str, "Sequence[RepoDataRecord]"], AbstractContextManager[BuildEnvironment]]
"""Links the conda packages of a platform, for as long as the block runs."""


@dataclass(frozen=True)
class PackageSources:
    """The sources of packages that replace those of a spec.

    Attributes:
        channels: conda channels, which replace those named in a dependency too. Paths are relative to the working
            directory.
        index_url: The package index of the pip section.
    """

    channels: Sequence[str] = ()
    index_url: str | None = None


def solve_lock(
    spec: EnvSpec,
    *,
    platforms: Sequence[str] = (),
    sources: PackageSources | None = None,
    cache_dir: Path | None = None,
    link: Link | None = None,
    reporter: Reporter | None = None,
) -> Lock:
    """Resolve ``spec`` to exact packages.

    Args:
        spec: The spec.
        platforms: The platforms, by default the spec's own or the one envpack runs on.
        sources: Sources that replace the spec's.
        cache_dir: uv's cache, None for its own.
        link: Links the conda packages of this machine's platform for builds without isolation, which some packages
            need for their metadata; by default they run in any Python.
        reporter: Shows the progress and warnings.

    Raises:
        UsageError: A platform is not supported.
        BuildError: There is no solution, or a channel or index can't be read.
    """
    reporter, sources = reporter or Reporter(), sources or PackageSources()
    platforms = platforms or [spec.platform or current_platform()]
    if unknown := [platform for platform in platforms if platform not in PLATFORMS]:
        raise UsageError(f"platform {unknown[0]!r} is not supported", hint=f"Use {' or '.join(PLATFORMS)}.")
    channels = spec_channels(spec, sources.channels)
    if not spec.channels and not sources.channels and channel_settings(os.environ).channels:
        names = without_secrets(", ".join(channel.base_url for channel in channels))
        reporter.note(f"the spec names no channels; those of conda's configuration are used: {names}")
    specs = match_specs(spec, any_channel=bool(sources.channels))
    locked = {}
    for platform in platforms:
        with reporter.step(f"Solving {spec.name} for {platform}") as step:
            records = solve_conda(spec, platform, channels, specs, reporter)
            step.detail = f"{len(records)} conda packages"
        pypi: tuple[LockedPypi, ...] = ()
        if has_pip_requirements(spec):
            if not any(record.name.normalized == "pip" for record in records):
                reporter.note(
                    "the spec has a pip section, but no pip in its dependencies: uv installs the packages, and "
                    "the environment contains no pip"
                )
            linking = link is not None and platform == current_platform() and _builds_in_the_environment(spec)
            with ExitStack() as stack:
                environment = stack.enter_context(link(platform, records)) if link and linking else None
                step = stack.enter_context(reporter.step(f"Resolving the pip section for {platform}"))
                pypi = resolve_pip(
                    spec,
                    platform,
                    records,
                    index_url=sources.index_url,
                    cache_dir=cache_dir,
                    environment=environment,
                    reporter=reporter,
                )
                step.detail = f"{len(pypi)} pip packages"
        locked[platform] = LockedPlatform(tuple(records), pypi)
    return Lock(spec, tuple(channel.base_url for channel in channels), locked, spec.digest())


def _builds_in_the_environment(spec: EnvSpec) -> bool:
    return any(line.option == "--no-build-isolation" for line in section_lines(spec))


def has_pip_requirements(spec: EnvSpec) -> bool:
    """Return whether the pip section has requirements, not only options."""
    return any(line.option in ("", "--requirement", "--editable") for line in section_lines(spec))


def match_specs(spec: EnvSpec, *, any_channel: bool) -> list[MatchSpec]:
    """Return the dependencies of the spec as MatchSpecs, without their channels when ``any_channel`` is set."""
    from rattler import MatchSpec

    return [
        MatchSpec(split_channel(text)[1] if any_channel else with_channel_url(text, spec.directory))
        for text in spec.dependencies
    ]


def solve_conda(
    spec: EnvSpec, platform: str, channels: Sequence[Channel], specs: Sequence[MatchSpec], reporter: Reporter
) -> list[RepoDataRecord]:
    """Return the conda packages for ``platform``, sorted by name.

    Args:
        spec: The spec, for its name, its ``requires`` and its priority of channels.
        platform: The conda subdir to solve for.
        channels: The channels in order of priority.
        specs: The dependencies.
        reporter: Receives a note if the priority of channels could not be kept.

    Raises:
        BuildError: There is no solution (with the solver's explanation), or a channel can't be read.
    """
    from rattler import Gateway, Subdir, solve
    from rattler.exceptions import GatewayError, SolverError

    target = ", ".join(text.rsplit("=", 1)[0] for text in virtual_package_texts(platform, spec.requires))
    gateway, platforms = Gateway(client=rattler_async.client()), [Subdir(platform), Subdir("noarch")]
    stated = spec.channel_priority or channel_settings(os.environ).priority

    async def attempt(priority: ChannelPriority) -> list[RepoDataRecord]:
        return await solve(
            channels,
            specs,
            platforms=platforms,
            virtual_packages=virtual_packages(platform, spec.requires),
            gateway=gateway,
            channel_priority=priority,
        )

    async def answer() -> list[RepoDataRecord]:
        records, relaxed = await solve_with_priority(attempt, stated)
        if relaxed:
            later = await of_later_channels(records, gateway, channels, platforms)
            reporter.note(note_of_later_channels(later, spec.name, platform))
        return records

    try:
        records = rattler_async.run(answer())
    except SolverError as error:
        lines = [line for line in without_secrets(str(error)).splitlines() if line.strip()]
        reason = lines[0].removeprefix("Cannot solve the request because of: ") if lines else "no reason given"
        names = without_secrets(", ".join(channel.base_url for channel in channels))
        strict = " They have strict priority." if stated == "strict" else ""
        raise BuildError(
            f"the dependencies of {spec.name} can't be satisfied on {platform}: {reason.rstrip('.')}",
            hint=f"Loosen or correct the dependencies named above. Channels: {names}.{strict} Target: {target}.",
            details=[*rattler_async.run(suggestions(gateway, channels, platforms, specs)), *lines[1:]],
        ) from None
    except GatewayError as error:
        raise channel_failure(str(error), [channel.base_url for channel in channels]) from None
    return sorted(records, key=lambda record: record.name.normalized)


CREDENTIALS_HINT = (
    "Put the user and the password of the host into ~/.netrc (machine HOST login USER password PASSWORD), or into "
    "the URL of the channel in the spec."
)


def credentials_refused(text: str) -> bool:
    """Return whether a message of rattler says that a server requires a login, or another one."""
    return any(part in text for part in ("401 Unauthorized", "403 Forbidden"))


def channel_failure(text: str, channels: Sequence[str]) -> BuildError:
    """Return an error for a channel that does not exist or can't be read.

    Args:
        text: rattler's message.
        channels: The URLs of all channels; one in the message is named.
    """
    mentioned = [url for url in channels if url.rstrip("/") in text]
    channel = without_secrets(mentioned[0] if mentioned else ", ".join(channels))
    lines = [line.strip() for line in without_secrets(text).splitlines() if line.strip()]
    first = lines[0] if lines else "no reason given"
    folder = channel.rstrip("/").rsplit("/", 1)[-1]
    if "://" in channel and not channel.startswith("file:") and Path(folder).is_dir():
        hint = f"To use the directory of that name as a channel, write ./{folder}."
        return BuildError(f"the channel {channel} can't be read: {first}", hint=hint, details=lines[1:])
    if credentials_refused(text):
        return BuildError(
            f"the channel {channel} requires other credentials: {first}",
            hint=CREDENTIALS_HINT,
            details=lines[1:],
        )
    missing = any(part in text for part in ("could not find subdir", "404", "No such file"))
    if missing:
        return BuildError(
            f"there is no conda channel at {channel}",
            hint="Check the name, or give another channel with --channel. A local channel has a directory "
            "noarch with a repodata.json.",
            details=lines,
        )
    return BuildError(
        f"the channel {channel} can't be read: {first}",
        hint="Check the network and any proxy, or give a mirror or a local channel with --channel.",
        details=lines[1:],
    )
