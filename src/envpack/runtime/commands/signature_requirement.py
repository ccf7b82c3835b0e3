"""The requirement of signatures on this host: code that can't check them has to refuse the bundle.

``envpack.signing.policy`` reads the policy file and checks signatures; the runtime in a bundle has no library for
that.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from envpack.runtime.errors import IntegrityError
from envpack.runtime.fs.paths import exists
from envpack.runtime.transport.open import shown

POLICY_PATH = "etc/envpack/policy.toml"
"""Path of the policy file below the root directory.

Only root writes there, and no option or variable changes the path.
"""

UNSIGNED_HINT = "Use a bundle signed with one of its keys, or ask the administrator of this host."
"""Hint of the errors that refuse a bundle without a valid signature."""

_DATED = re.compile(r"(.+)-\d{8}(?:\.\d+)?-[a-z0-9]+(?:-[a-z0-9_]+)?\.t[a-z]+(?:\.[a-z0-9]+)?")
"""The names that releases get, `envpack.publish.names.BundleName`; the group is the name and the version."""


def signatures_required(root: Path = Path("/")) -> bool:
    """Return whether a policy file exists; if its status can't be read, it counts as existing."""
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


def other_program(name: str, version: str, bundle: Path | str, deployed: str | None) -> str:
    """Return why a bundle is not the program that was asked for, as a sentence; "" when nothing says so.

    A signature shows who made a bundle, but not that it is the one asked for: whoever can write to a server can
    give one signed bundle the name of another, or of a newer version.

    Args:
        name: The name in the bundle's manifest.
        version: The version there.
        bundle: The path or URL that was asked for; its file name counts when it has the form of a release's.
        deployed: The name of the environment that is at the destination, None when there is none.
    """
    found = f"{name} {version}"
    if deployed and deployed != name:
        return f"the bundle is {found}, and the deployment at the destination is {deployed}"
    file_name = unquote(shown(bundle).rpartition("/")[2])
    dated = _DATED.fullmatch(file_name)
    if dated and dated[1] != f"{name}-{version}":
        return f"the bundle is {found}, which {file_name} is not the name of"
    return ""
