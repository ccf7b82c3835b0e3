"""Whether this host demands signatures: whoever can't check them has to refuse.

``envpack.signing.policy`` reads the file and checks; the runtime in a bundle has no library to do so.
"""

from __future__ import annotations

import os
from pathlib import Path

from envpack.runtime.errors import IntegrityError

POLICY_PATH = "etc/envpack/policy.toml"
"""Below the root folder; root's file, and no option or variable leads elsewhere."""

UNSIGNED_HINT = "Use a bundle that is signed by one of its keys, or ask who administers this host."


def demands_signatures(root: Path = Path("/")) -> bool:
    """Whether there is a policy. One that can't be looked at counts as one that is there."""
    try:
        os.lstat(root / POLICY_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def refuse_unchecked(what: str, root: Path = Path("/")) -> None:
    """Raises IntegrityError where signatures are demanded; ``what`` can't be checked, and says so."""
    if demands_signatures(root):
        raise IntegrityError(f"{root / POLICY_PATH} demands signatures, and {what}", hint=UNSIGNED_HINT)
