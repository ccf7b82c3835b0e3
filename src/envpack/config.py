"""Settings that a user or an administrator writes once: ``config.toml``.

The host's signature policy is separate, in ``envpack.signing.policy``: no option or variable changes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from envpack.runtime.errors import UsageError
from envpack.runtime.fs.io import read_file
from envpack.suggest import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SYSTEM_CONFIG = Path("etc/envpack/config.toml")
"""The settings for all users of the host, below the root folder."""

USER_CONFIG = Path("envpack/config.toml")
"""The user's settings, below XDG_CONFIG_HOME or ~/.config (XDG Base Directory Specification 0.8). Each setting
overrides that of the system.
"""

MAX_FILE = 1 << 20


@dataclass(frozen=True)
class Config:
    """The settings; None where nothing was set.

    Args:
        store: The folder of the shared store.
        keep: The number of previous deployments to keep, 0 or more.
        jobs: Threads, 1 or more.
        sign_key: The secret key that 'envpack release' signs with.
    """

    store: Path | None = None
    keep: int | None = None
    jobs: int | None = None
    sign_key: Path | None = None


def load_config(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> Config:
    """Return the settings of this host and user. A missing file sets nothing.

    Args:
        environ: Environment variables, for HOME and XDG_CONFIG_HOME (default: the process's).
        root: The folder that /etc is in.

    Raises:
        UsageError: A file can't be read or is wrong; the message names it.
    """
    environ = os.environ if environ is None else environ
    home = environ.get("HOME", "")
    paths = [root / SYSTEM_CONFIG]
    folder = environ.get("XDG_CONFIG_HOME", "") or (f"{home}/.config" if home else "")
    if folder.startswith("/"):  # "if [it] is relative, it should be considered invalid and ignored"
        paths.append(Path(folder) / USER_CONFIG)
    found: dict[str, Any] = {}
    for path in paths:
        found.update(_read(path, home))
    return Config(**found)


def _read(path: Path, home: str) -> dict[str, Any]:
    document = read_toml(path)
    if document is None:
        return {}
    known = [field.name for field in fields(Config)]
    unknown = [key for key in document if key not in known]
    if unknown:
        near = nearest(unknown[0], known, "the settings are:")
        raise UsageError(f"{path}: {unknown[0]!r} is not a setting{near}")
    return {key: _READERS[key](value, f"{path}: {key}", home) for key, value in document.items()}


def read_toml(path: Path) -> dict[str, Any] | None:
    """Return the content of a TOML file; None when there is no such file.

    Raises:
        UsageError: The file can't be read, is larger than `MAX_FILE`, or is not valid TOML.
    """
    try:
        data = read_file(path, MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}", hint="Make the file readable, or remove it.") from None
    if len(data) > MAX_FILE:
        raise UsageError(f"{path}: larger than {MAX_FILE:,} bytes")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:  # both UnicodeDecodeError and TOMLDecodeError are ValueErrors
        raise UsageError(f"{path}: not valid TOML: {problem}") from None


def _path(value: Any, setting: str, home: str) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise UsageError(f"{setting}: expected a path in quotes, found {value!r}")
    if value == "~" or value.startswith("~/"):
        if not home:
            raise UsageError(f"{setting}: '~' can't be expanded because HOME is not set")
        value = home + value[1:]
    if not value.startswith("/"):
        raise UsageError(
            f"{setting}: {value!r} is not an absolute path", hint="Use a path that begins with '/' or '~/'."
        )
    return Path(value)


def _integer(minimum: int) -> Callable[[Any, str, str], int]:
    def read(value: Any, setting: str, home: str) -> int:
        if type(value) is not int or not minimum <= value <= 1 << 20:
            raise UsageError(f"{setting}: expected an integer of {minimum} or more, found {value!r}")
        return value

    return read


_READERS: Mapping[str, Callable[[Any, str, str], Any]] = {
    "store": _path,
    "keep": _integer(0),
    "jobs": _integer(1),
    "sign_key": _path,
}
