"""The installed prefix of a tree: checks whether a prefix can be written, and reads and records it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from envpack.runtime.errors import DestinationError, RelocationError
from envpack.runtime.format.layout import PREFIX_PATH
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.paths import sibling_path
from envpack.runtime.relocation.relocation import unsafe_bytes
from envpack.runtime.relocation.shebang import needs_activation
from envpack.runtime.report import Reporter
from envpack.runtime.tree.journal import Journal


def check_characters(prefix: str) -> None:
    """Check that ``prefix`` has no bytes that can't be written into the files of any environment.

    Raises:
        RelocationError: it is not UTF-8, or has characters that break scripts or PATH.
    """
    coded = os.fsencode(prefix)
    try:
        coded.decode("utf-8")
    except UnicodeDecodeError:
        raise RelocationError(
            f"the destination {prefix!r} is not UTF-8, which byte-code and scripts require",
            hint="Choose a path in UTF-8 or ASCII.",
        ) from None
    unsafe = unsafe_bytes(coded)
    if unsafe:
        raise RelocationError(
            f"the destination {prefix!r} has characters that break scripts or PATH: {os.fsdecode(unsafe)!r}",
            hint="Choose a path of letters, digits, '/', '-', '_', '.', '+', '=', '@', ',' and blanks.",
        )


def check_prefix(manifest: Manifest, prefix: str, *, any_length: bool = False) -> bool:
    """Check that ``prefix`` can be written into the environment of ``manifest``.

    Args:
        manifest: the manifest.
        prefix: the prefix.
        any_length: whether it may be too long: then strings in binaries keep their placeholder.

    Returns:
        Whether it is too long.

    Raises:
        RelocationError: it is too long, or has unsafe bytes.
    """
    check_characters(prefix)
    coded = os.fsencode(prefix)
    too_long = manifest.longest_prefix is not None and len(coded) > manifest.longest_prefix
    if too_long and not any_length:
        raise RelocationError(
            f"the path of the destination has {len(coded)} bytes, and at most {manifest.longest_prefix} fit",
            hint="Choose a shorter path, or rebuild with 'envpack build', which allows 200 bytes. "
            "'envpack deploy --allow room' ignores this, but paths in compiled files then don't work.",
            details=[f"{manifest.limited_by}: at most {manifest.longest_prefix} bytes"],
        )
    return too_long


def installed_prefix(root: Path) -> str | None:
    """Return the installed prefix of the tree at ``root``; None when there is none yet, "" when it can be no path.

    Raises:
        OSError: the file that records it can't be read.
    """
    try:
        data = read_file(root / PREFIX_PATH)
    except FileNotFoundError:
        return None
    return "" if b"\0" in data else os.fsdecode(data).rstrip("\n")


def own_prefix(root: Path) -> str | None:
    """Return the installed prefix if it leads to the tree at ``root``; None when there is none, or another one.

    It may lead there through links in its parents, such as that of an automounted home.

    Raises:
        OSError: the file that records it can't be read.
    """
    installed = installed_prefix(root)
    if installed is None or installed == str(root):
        return installed
    try:
        return installed if os.path.samestat(os.lstat(installed), os.stat(root)) else None
    except (OSError, ValueError):
        return None


def refuse_generation(root: Path) -> None:
    """Raise DestinationError when ``root`` is, or lies in, a previous generation below ``.NAME.envpack``.

    Its files have the path of the destination written into them, for a rollback; it is not to be used where it is.
    """
    for path in (root, *root.parents):
        folder = path.parent
        if _GENERATION.fullmatch(path.name) and _STATE_FOLDER.fullmatch(folder.name):
            destination = folder.with_name(folder.name[1 : -len(".envpack")])
            written = installed_prefix(path)
            if written and sibling_path(Path(written), "envpack").name == folder.name:
                destination = Path(written)  # also where a long name was cut off in that of the folder
            raise DestinationError(
                f"{root} is in a previous generation of {destination}; it was not changed",
                hint=f"Use {destination}: run 'cd {destination}' if the current directory was there. "
                "'envpack rollback' switches to a previous generation.",
            )


_GENERATION = re.compile(r"\d+|(?:new|next)-\d+|trash-\d+|aside")
_STATE_FOLDER = re.compile(r"\..+\.envpack", re.DOTALL)
"""The names in `envpack.runtime.deployment.state`."""


def prefixes_in(root: Path) -> list[str]:
    """Return all prefixes that a file of the tree at ``root`` may contain, the most likely first."""
    written = installed_prefix(root)
    return list(dict.fromkeys(([written] if written is not None else []) + Journal(root).read()[1]))


def warn_activation_needed(table: PathsTable, prefix: bytes, reporter: Reporter) -> None:
    """Report the scripts that run only in the activated environment, as the prefix is too long or has blanks.

    Args:
        table: the paths table.
        prefix: the prefix that was written.
        reporter: where the note goes.
    """
    found = [
        record.path
        for record in table
        if record.relocation is not None
        and record.relocation.shebang is not None
        and needs_activation(prefix, record.relocation.shebang)
    ]
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
        why = "has blanks" if b" " in prefix else "is too long for the first line of a script"
        reporter.note(
            f"the path of the destination {why}, so these scripts need an activated environment: {shown}"
        )


def write_prefix(root: Path, prefix: str) -> None:
    """Record ``prefix`` as the installed prefix of the tree at ``root``, by an atomic replace.

    Raises:
        OSError: the file can't be written.
    """
    replace_own_file(root / PREFIX_PATH, os.fsencode(prefix) + b"\n")
