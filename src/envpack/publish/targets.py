"""Publishers by the address of a target: a path, or an URL whose scheme names the kind of place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envpack.publish.base import Publisher
from envpack.publish.local import LocalFolder
from envpack.runtime.errors import UsageError
from envpack.runtime.transport.open import local_path, shown

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?!$)")


@dataclass(frozen=True)
class TargetOptions:
    """The options of a target.

    Attributes:
        environ: Environment variables, which hold the credentials.
        insecure: Allow http without TLS to other hosts than this one.
        writes: Something will be published, so that missing credentials can be told before any work is done.
        bundles: The names of all bundles that will be published there by this command.
    """

    environ: Mapping[str, str]
    insecure: bool = False
    writes: bool = False
    bundles: Sequence[str] = ()


def _github(target: str, options: TargetOptions) -> Publisher:
    from envpack.publish.git_hosts.github import GitHubReleases  # imported only here: http.client is slow to load

    place = GitHubReleases(target, options.environ, insecure=options.insecure, bundles=options.bundles)
    if options.writes:
        place.check_token()
    return place


def _gitlab(target: str, options: TargetOptions) -> Publisher:
    from envpack.publish.git_hosts.gitlab import GitLabPackages

    place = GitLabPackages(target, options.environ, insecure=options.insecure, bundles=options.bundles)
    if options.writes:
        place.check_token()
    return place


def _registry(target: str, options: TargetOptions) -> Publisher:
    from envpack.publish.oci.publisher import open_repository

    return open_repository(target, options.environ, insecure=options.insecure)


def _object_store(target: str, options: TargetOptions) -> Publisher:
    from envpack.publish.object_store.address import parse_address
    from envpack.publish.object_store.connect import client_library

    address = parse_address(target)
    client_library()
    from envpack.publish.object_store.publisher import ObjectStore  # imports obstore

    return ObjectStore(address, options.environ, insecure=options.insecure)


PUBLISHERS: Mapping[str, Callable[[str, TargetOptions], Publisher]] = {
    "github": _github,
    "gitlab": _gitlab,
    "oci": _registry,
    "s3": _object_store,
    "gs": _object_store,
    "az": _object_store,
}
"""The functions that return a publisher, by the scheme of the target. Each raises UsageError for a target that is
not valid, and makes no request.
"""


def publisher_for(target: str, options: TargetOptions) -> Publisher:
    """Return the publisher of a target.

    Args:
        target: The path of a folder, or an URL with a scheme of `PUBLISHERS`.
        options: Its options.

    Raises:
        UsageError: The scheme is unknown, or the rest is not valid.
    """
    found = _SCHEME.match(target)
    scheme = found[1].lower() if found else ""
    if scheme in PUBLISHERS:
        return PUBLISHERS[scheme](target, options)
    place = local_path(target)
    if isinstance(place, Path):
        return LocalFolder(place, "Choose another directory.")
    raise UsageError(
        f"can't publish to {shown(target)}", hint=f"Use the path of a directory, or {', '.join(PUBLISHERS)}."
    )
