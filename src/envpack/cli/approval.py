"""The signature check between a bundle and a deployment, where the host's policy requires signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from envpack.cli.console import Console

Approve = Callable[[bytes, Path | str], None]


def approval(console: Console) -> Approve | None:
    """Return a function to call with a bundle's manifest and path before anything of it is unpacked.

    The result is None where the host requires no signatures.

    Raises:
        IntegrityError: The host's policy can't be followed.
    """
    from envpack.runtime.commands.signature_requirement import signatures_required

    if not signatures_required(console.root):
        return None
    from envpack.signing.policy import signature_policy

    policy_of_host = signature_policy(console.root)
    if policy_of_host is None:
        return None
    policy = policy_of_host

    def approve(manifest: bytes, bundle: Path | str) -> None:
        signed = policy.approve(manifest, bundle)
        console.reporter.note(f"signed by {signed.key.name}: {signed.comment}")

    return approve


def refuse_archive(console: Console, archive: Path) -> None:
    """Raise IntegrityError where the host requires signatures: archives of other tools have none."""
    from envpack.runtime.commands.signature_requirement import refuse_unchecked

    refuse_unchecked(f"{archive} was made by another tool and has no signature", console.root)
