"""The formats that conda-pack writes, chosen by the suffix of the output."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from envpack.runtime.errors import DestinationError, PackError, UsageError

FORMATS = {
    ".zip": "zip",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
    ".tar": "tar",
    ".squashfs": "squashfs",
    ".parcel": "parcel",
    ".no-archive": "no-archive",
}
"""conda-pack's name of a format, by the output's suffix (conda_pack/core.py, ``_output_and_format``)."""

_BUNDLE_FORMATS = {".tar.gz": "tar.gz", ".tgz": "tar.gz", ".tar.zst": "tar.zst"}
"""Formats of archives with a fixed path, by suffix; without a fixed path, these suffixes are those of bundles."""

PARCEL = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-(?P<distro>[^-]+)\.parcel")


def format_for(output: Path, dest_prefix: str = "") -> str | None:
    """Return conda-pack's name of the format that the output's name asks for; None for bundles and others."""
    formats = {**FORMATS, **_BUNDLE_FORMATS} if dest_prefix else FORMATS
    return next((name for suffix, name in formats.items() if output.name.endswith(suffix)), None)


def check_output(output: Path, level: int | None, dest_prefix: str = "") -> str:
    """Check that an output can be written, and return conda-pack's name of its format.

    Args:
        output: The path of the output.
        level: The compression level; None for the default.
        dest_prefix: The only path that the archive can be used at; "" for any path.

    Raises:
        UsageError: The format is unknown, or does not support the options.
    """
    kind = format_for(output, dest_prefix)
    if dest_prefix and (not os.path.isabs(dest_prefix) or kind == "parcel"):
        reason = "a parcel has a path of its own" if kind == "parcel" else f"{dest_prefix} is not absolute"
        raise UsageError(f"--dest-prefix can't be used: {reason}", hint="Give an absolute path, or leave it out.")
    if kind is None:
        raise UsageError(
            f"{output}: the suffix is not one of a known format", hint=f"Use a name like *{', *'.join(FORMATS)}."
        )
    if level is not None and not 0 <= level <= 9:
        raise UsageError(f"conda-pack does not support the level {level}", hint="Use a level from 0 to 9.")
    if kind == "parcel" and not PARCEL.fullmatch(output.name):
        raise UsageError(
            f"{output.name} is not a valid name of a parcel",
            hint="Name it NAME-VERSION-DISTRIBUTION.parcel, without other hyphens, such as demo-1.0-el8.parcel.",
        )
    if kind == "squashfs" and shutil.which("mksquashfs") is None:
        raise PackError("mksquashfs is not installed", hint="Install squashfs-tools, or choose another format.")
    if output.is_dir() and not output.is_symlink():
        raise DestinationError(f"{output} is a directory", hint="Choose another output.")
    return kind
