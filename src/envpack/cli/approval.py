"""The signature check between a bundle and a deployment, where the host's policy requires signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.cli.console import Console
from envpack.runtime.errors import IntegrityError
from envpack.runtime.transport.open import shown

if TYPE_CHECKING:
    from envpack.runtime.transport.documents import Latest
    from envpack.signing.policy import SignaturePolicy

Approve = Callable[[bytes, Path | str], None]


def approval(console: Console, where: Path | str | None = None, destination: Path | None = None) -> Approve | None:
    """Return a function to call with a bundle's manifest and path before anything of it is unpacked.

    The result is None where there is nothing to check.

    Args:
        console: Receives the notes.
        where: The path or URL that the user gave. If it is a pointer to the latest release, it is checked at once,
            and the bundle has to be the one that it names.
        destination: The path to deploy to.

    Raises:
        IntegrityError: The host's policy can't be followed, or the pointer is not to be believed.
    """
    from envpack.runtime.commands.signature_requirement import signatures_required
    from envpack.runtime.transport.open import latest_at

    latest = latest_at(where) if where is not None else None
    policy = None
    if signatures_required(console.root):
        from envpack.signing.policy import signature_policy

        policy = signature_policy(console.root)
    if latest is not None:
        assert where is not None
        _check_latest(console, latest, where, destination, policy)
    if policy is None and latest is None:
        return None

    def approve(manifest: bytes, bundle: Path | str) -> None:
        if latest is not None and hashlib.sha256(manifest).hexdigest() != latest.manifest_sha256:
            raise IntegrityError(
                f"{shown(bundle)} is not the bundle that {shown(where or bundle)} names",
                hint="Run the command again. If it fails again, the release has to be published again.",
            )
        if policy is not None:
            signed = policy.approve(manifest, bundle)
            console.reporter.note(f"signed by {signed.key.name}: {signed.comment}")

    return approve


def _check_latest(
    console: Console, latest: Latest, where: Path | str, destination: Path | None, policy: SignaturePolicy | None
) -> None:
    if policy is not None:
        policy.approve_latest(latest, shown(where), datetime.now(timezone.utc).date())
    newer = newer_deployment(latest, destination) if destination is not None else ""
    if not newer:
        return
    problem = f"{shown(where)} leads to {latest.bundle}, and {newer} is deployed, which is newer"
    if policy is None:
        console.reporter.warn(problem)
        return
    raise IntegrityError(problem, hint="If you want the older one, deploy it by its own name.")


def newer_deployment(latest: Latest, destination: Path) -> str:
    """Return the name of the bundle at a destination if it is a newer release than ``latest``; else ""."""
    from envpack.publish.names import parse_published_name
    from envpack.runtime.deployment.record import read_record

    record = read_record(destination)
    offered = parse_published_name(latest.bundle, latest.name)
    there = parse_published_name(record.bundle.rpartition("/")[2], record.name) if record is not None else None
    if there is None or offered is None or (there.name, there.subdir) != (offered.name, offered.subdir):
        return ""
    return str(there) if there.age > offered.age else ""


def refuse_archive(console: Console, archive: Path) -> None:
    """Raise IntegrityError where the host requires signatures: archives of other tools have none."""
    from envpack.runtime.commands.signature_requirement import refuse_unchecked

    refuse_unchecked(f"{archive} was made by another tool and has no signature", console.root)
