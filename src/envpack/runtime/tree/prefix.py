"""The prefix that is written into a tree: which one it is, and which ones can be."""

from __future__ import annotations

import json
import os
from pathlib import Path

from envpack.runtime.errors import RelocationError
from envpack.runtime.format.layout import PREFIX_PATH, SETTLING_PATH
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.fs.atomic import replace_file
from envpack.runtime.relocation.relocation import unsafe_bytes
from envpack.runtime.relocation.shebang import needs_activation
from envpack.runtime.report import Reporter


def check_characters(prefix: str) -> None:
    """Raises RelocationError when ``prefix`` has bytes that no environment's files take."""
    coded = os.fsencode(prefix)
    try:
        coded.decode("utf-8")
    except UnicodeDecodeError:
        raise RelocationError(
            f"the destination {prefix!r} is not UTF-8, as byte-code and scripts have to be",
            hint="Choose a destination whose name is UTF-8, or plain ASCII.",
        ) from None
    unsafe = unsafe_bytes(coded)
    if unsafe:
        raise RelocationError(
            f"the destination {prefix!r} has characters that break scripts or PATH: {os.fsdecode(unsafe)!r}",
            hint="Choose a destination of letters, digits, '/', '-', '_', '.', '+', '=', '@', ',' and blanks.",
        )


def check_prefix(manifest: Manifest, prefix: str) -> None:
    """Raises RelocationError when ``prefix`` can't be written into the environment: too long, or unsafe bytes."""
    check_characters(prefix)
    coded = os.fsencode(prefix)
    if manifest.longest_prefix is not None and len(coded) > manifest.longest_prefix:
        raise RelocationError(
            f"the destination has {len(coded)} bytes, and there is room for {manifest.longest_prefix}",
            hint="Choose a shorter destination, or rebuild with 'envpack build', which leaves room for 200 bytes.",
            details=[f"{manifest.limited_by}: room for {manifest.longest_prefix} bytes"],
        )


def written_prefix(root: Path) -> str | None:
    """The prefix that is written into the tree at ``root``; None when none is yet."""
    try:
        return os.fsdecode((root / PREFIX_PATH).read_bytes()).rstrip("\n")
    except FileNotFoundError:
        return None


def prefixes_in(root: Path) -> list[str]:
    """Every prefix that may stand in a file of the tree at ``root``, the likeliest first."""
    written = written_prefix(root)
    return list(dict.fromkeys(([written] if written is not None else []) + pending_rewrite(root)[1]))


def pending_rewrite(root: Path) -> tuple[bool, list[str]]:
    """What an earlier call that was stopped midway has noted."""
    try:
        document = json.loads((root / SETTLING_PATH).read_bytes())
        return bool(document["settled"]), [str(prefix) for prefix in document["prefixes"]]
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return False, []


def tell_activation(table: PathsTable, prefix: bytes, reporter: Reporter) -> None:
    """Names the scripts that this prefix is too long for, or has blanks, and that run in the activated environment
    only."""
    found = [
        record.path
        for record in table
        if record.relocation is not None
        and record.relocation.shebang is not None
        and needs_activation(prefix, record.relocation.shebang)
    ]
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
        why = "has blanks" if b" " in prefix else "is too long for a script's first line"
        reporter.note(f"the destination {why}, so these run in the activated environment only: {shown}")


def write_prefix(root: Path, prefix: str) -> None:
    """Notes the prefix that is written in. Raises OSError."""
    replace_file(root / PREFIX_PATH, os.fsencode(prefix) + b"\n")
