"""The checks before a deployment: of the host, of the platform, and of the length of the destination's path."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from envpack.runtime.commands.check import Policy, check_manifest, facts_for
from envpack.runtime.errors import HostError
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.host.checks.verdict import OK, UNKNOWN, WARNING
from envpack.runtime.host.detect.machine import host_subdir
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import ROOM
from envpack.runtime.tree.prefix import check_prefix


def check_before(
    manifest: Manifest, bundle: str, destination: Path, policy: Policy, reporter: Reporter
) -> dict[str, Any]:
    """Check the host before a deployment, and return what the deployment records of the check.

    Warnings go to ``reporter``. Free disk space is checked here only when the spec states how much the environment
    takes.

    Args:
        manifest: Manifest of the bundle.
        bundle: Name of the bundle, for messages.
        destination: Directory of the deployment.
        policy: Policy of the check; nothing is checked where its ``check`` is False.
        reporter: Receives warnings and notes.

    Returns:
        The ``check`` part of the deployment's record.

    Raises:
        HostError: A requirement failed that the policy does not allow to fail.
    """
    record: dict[str, Any] = {
        "check": policy.check,
        "gpu": policy.gpu,
        "allow": list(policy.allow),
        "overridden": [],
    }
    if not policy.check:
        return record
    facts = facts_for(manifest, policy, destination)
    report = check_manifest(manifest, bundle, facts, policy, deployed="disk" not in manifest.requires)
    report.require("To ignore this, use --allow {names}. 'envpack check BUNDLE' shows all requirements.")
    for item in report.of(WARNING):
        reporter.warn(item.message)
    for item in (*report.of(UNKNOWN), *report.of(OK)):
        if item.remedy or (item.verdict == OK and item.says):
            reporter.note(item.message)
    record["overridden"] = [item.requirement for item in report.verdicts if item.allowed]
    return record


def check_room(
    manifest: Manifest, prefix: str, policy: Policy, checked: Mapping[str, Any], reporter: Reporter
) -> Mapping[str, Any]:
    """Check that a destination is not too long, and return the record of the check with what was overridden.

    Args:
        manifest: the manifest of the bundle.
        prefix: the path of the destination.
        policy: the policy of the check.
        checked: the record of the checks so far.
        reporter: receives a warning when the length is overridden.

    Raises:
        RelocationError: the destination is too long and the policy does not allow that, or has unsafe bytes.
    """
    if not check_prefix(manifest, prefix, any_length=ROOM in policy.allow):
        return checked
    reporter.warn(
        f"the destination is longer than {manifest.longest_prefix} bytes: paths that are compiled into files such "
        f"as {manifest.limited_by} stay a placeholder, and lead nowhere"
    )
    return {**checked, "overridden": [*checked["overridden"], ROOM]}


def check_platform(subdir: str) -> None:
    """Raise HostError when an environment of this conda subdir can't run on this host."""
    if subdir not in (host_subdir(), "noarch"):
        raise HostError(
            f"the bundle is for {subdir}, but this host is {host_subdir()}",
            hint=f"Build it for this host: 'platform: {host_subdir()}' in the spec.",
        )
