"""The requirement of signatures on this host: code that can't check them has to refuse the bundle.

``envpack.signing.policy`` reads the policy file and checks signatures; the runtime in a bundle has no library for
that.
"""

from __future__ import annotations

from pathlib import Path

from envpack.runtime.errors import IntegrityError
from envpack.runtime.fs.paths import exists

POLICY_PATH = "etc/envpack/policy.toml"
"""Path of the policy file below the root directory.

Only root writes there, and no option or variable changes the path.
"""

UNSIGNED_HINT = "Use a bundle signed with one of its keys, or ask the administrator of this host."
"""Hint of the errors that refuse a bundle without a valid signature."""


def signatures_required(root: Path = Path("/")) -> bool:
    """Return whether a policy file exists; one whose status can't be read counts as existing."""
    try:
        return exists(root / POLICY_PATH)
    except OSError:
        return True


def refuse_unchecked(what: str, root: Path = Path("/")) -> None:
    """Raise IntegrityError where signatures are required.

    Args:
        what: Clause of the message that says why the signature can't be checked.
        root: Directory that the policy's path is relative to.
    """
    if signatures_required(root):
        raise IntegrityError(f"{root / POLICY_PATH} requires signatures, but {what}", hint=UNSIGNED_HINT)
