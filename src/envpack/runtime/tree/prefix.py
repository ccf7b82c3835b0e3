"""The installed prefix of a tree: checks whether a prefix can be written, and reads and records it."""

from __future__ import annotations

import os
from pathlib import Path

from envpack.runtime.errors import RelocationError
from envpack.runtime.format.layout import PREFIX_PATH
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.fs.atomic import replace_own_file
from envpack.runtime.fs.io import read_file
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


def check_prefix(manifest: Manifest, prefix: str) -> None:
    """Check that ``prefix`` can be written into the environment of ``manifest``.

    Raises:
        RelocationError: it is too long, or has unsafe bytes.
    """
    check_characters(prefix)
    coded = os.fsencode(prefix)
    if manifest.longest_prefix is not None and len(coded) > manifest.longest_prefix:
        raise RelocationError(
            f"the path of the destination has {len(coded)} bytes, and at most {manifest.longest_prefix} fit",
            hint="Choose a shorter path, or rebuild with 'envpack build', which allows 200 bytes.",
            details=[f"{manifest.limited_by}: at most {manifest.longest_prefix} bytes"],
        )


def installed_prefix(root: Path) -> str | None:
    """Return the installed prefix of the tree at ``root``; None when there is none yet.

    Raises:
        OSError: the file that records it can't be read.
    """
    try:
        return os.fsdecode(read_file(root / PREFIX_PATH)).rstrip("\n")
    except FileNotFoundError:
        return None


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
