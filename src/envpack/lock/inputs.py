"""Readers of what an environment is built from: specs, and locks of any known format."""

from __future__ import annotations

import re
from pathlib import Path

from envpack.lock.formats.conda_lock import conda_lock
from envpack.lock.formats.explicit import explicit_lock
from envpack.lock.model import Lock, parse_lock
from envpack.lock.project_files import find_spec, is_pixi_manifest, require_spec
from envpack.runtime.errors import UsageError
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.report import Reporter
from envpack.spec.model import EnvSpec
from envpack.spec.nodes import read_text
from envpack.spec.parse import parse_spec
from envpack.spec.pixi import parse_pixi


def load_input(path: Path, environment: str | None = None, reporter: Reporter | None = None) -> EnvSpec | Lock:
    """Read a spec, or a lock in any known format, which is recognised by the content of the file.

    Args:
        path: The file, or a folder with an environment.yml. Of a pixi project without a lock, the manifest is
            read as a spec.
        environment: The environment of a pixi.lock; by default the only one, else "default".
        reporter: Receives a warning for each thing in the file that is left out.

    Raises:
        SpecError: The file has none of these formats or is not valid.
        UsageError: ``environment`` is given, and the file has no named environments.
        BuildError: Packages of an ``@EXPLICIT`` file can't be found in their channel.
    """
    if is_folder(path, follow=True):
        path = find_spec(path)
    text = read_text(path, "spec or lock")
    format_ = input_format(text)
    if format_ == "rattler":
        return parse_lock(text, path, environment)
    if environment:
        raise UsageError(
            f"{path} has no environments to choose from",
            hint="Run the command without --environment, which is for a pixi.lock.",
        )
    if format_ == "explicit":
        return explicit_lock(text, path)
    if format_ == "conda-lock":
        return conda_lock(text, path, reporter)
    if is_pixi_manifest(path, text):
        return parse_pixi(text, str(path))
    require_spec(path, text)
    return parse_spec(text, str(path), reporter)


_PIXI_VERSION = re.compile(r"^version: *[23]\b", re.MULTILINE)
"""The version of a pixi.lock before format 4, which has conda-lock's structure; conda-lock's own is 1."""


def input_format(text: str) -> str:
    """Return the format of a text: "rattler", "conda-lock", "explicit", or "spec" for all others."""
    if re.search(r"^@EXPLICIT\s*$", text, re.MULTILINE):
        return "explicit"
    keys = set(re.findall(r"^([A-Za-z_-]+):", text, re.MULTILINE))
    if {"version", "packages"} <= keys or ({"version", "package"} <= keys and _PIXI_VERSION.search(text)):
        return "rattler"
    if {"version", "package"} <= keys:
        return "conda-lock"
    return "spec"
