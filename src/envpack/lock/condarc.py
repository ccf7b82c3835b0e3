"""conda's configuration files: where they lie, and what they say of channels."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envpack.runtime.errors import SpecError, UsageError
from envpack.runtime.fs.io import read_file
from envpack.spec.nodes import load

ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""The address of channels given by name, and the channels that conda means by ``defaults``
(https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/settings.html#default-channels).
"""


_PRO = "https://repo.anaconda.com/pkgs/pro"
_SUBDIR = re.compile(r"/(noarch|(?:linux|osx|win|freebsd|zos|emscripten|wasi)-[a-z0-9]+)/*$")


def split_subdir(channel: str) -> tuple[str, str]:
    """Return the name or URL of a channel, and the platform at its end, "" where there is none."""
    match = _SUBDIR.search(channel)
    return (channel[: match.start()], match[1]) if match else (channel, "")


@dataclass(frozen=True)
class ChannelSettings:
    """Settings of channels in a user's configuration of conda.

    Attributes:
        channels: The channels of a spec that names none.
        alias: The address that names of channels are appended to.
        urls: The channels that a name stands for, in order of priority.
    """

    channels: tuple[str, ...] = ()
    alias: str = ALIAS
    urls: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"defaults": _DEFAULTS})

    def expand(self, names: Sequence[str]) -> list[str]:
        """Return channels with those that stand for others replaced, and without ``nodefaults``, which is none.

        A name or URL that ends in a platform (``conda-forge/linux-64``) is its channel, and ``<unknown>``, which
        ``conda env export`` writes for packages from files, is ``defaults`` (conda/models/channel.py).
        """
        found: list[str] = []
        for name in (split_subdir(name)[0] for name in names):
            urls = self.urls.get("defaults" if name == "<unknown>" else name)
            found.extend(urls if urls is not None else self._default(name))
        return list(dict.fromkeys(found))

    def _default(self, name: str) -> list[str]:
        """Return the default channel with this name (``pkgs/main``), none for ``nodefaults``, else the name."""
        if name == "nodefaults":
            return []
        urls = (*self.urls.get("defaults", ()), _PRO)
        return [next((url for url in urls if urlsplit(url).path.strip("/") == name), name)]


def channel_settings(environ: Mapping[str, str]) -> ChannelSettings:
    """Return the settings of conda's configuration files and variables (conda/base/context.py).

    These are ``channels``, ``channel_alias``, ``default_channels``, ``custom_channels``, ``custom_multichannels``,
    mamba's ``mirrored_channels`` (https://mamba.readthedocs.io/en/latest/user_guide/configuration.html), and the
    variables CONDA_CHANNELS and CONDA_CHANNEL_ALIAS. A later file has priority over an earlier one.
    """
    channels: list[str] = []
    alias = ALIAS
    urls: dict[str, tuple[str, ...]] = {"defaults": _DEFAULTS}
    for file in configuration_files(environ):
        document = read_configuration(file)
        channels = [*_texts(document.get("channels"), environ), *channels]
        alias = next(iter(_texts(document.get("channel_alias"), environ)), alias)
        for name, base in _mapping(document.get("custom_channels")).items():
            if bases := _texts(base, environ):
                urls[name] = (f"{bases[0].rstrip('/')}/{name}",)
        if defaults := _texts(document.get("default_channels"), environ):
            urls["defaults"] = tuple(defaults)
        for key in ("custom_multichannels", "mirrored_channels"):
            for name, members in _mapping(document.get(key)).items():
                several = _texts(members, environ)
                # the mirrors of one channel are the same channel
                urls[name] = tuple(several[:1] if key == "mirrored_channels" else several)
    stated = [name.strip() for name in environ.get("CONDA_CHANNELS", "").split(",") if name.strip()]
    alias = environ.get("CONDA_CHANNEL_ALIAS") or alias
    return ChannelSettings(tuple(dict.fromkeys(stated or channels)), alias.rstrip("/"), urls)


def read_configuration(file: Path) -> Mapping[str, Any]:
    """Return the content of a configuration file; empty for an unreadable one, which conda reports."""
    try:
        document = load(read_file(file).decode("utf-8"), str(file)) if file.is_file() else None
    except (OSError, UnicodeDecodeError, SpecError):
        return {}
    return _mapping(document)


def configuration_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the configuration files that conda and mamba read (conda/base/constants.py, SEARCH_PATH)."""
    home = home_of(environ)
    configured = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "conda"
    prefix = [Path(environ["CONDA_PREFIX"])] if environ.get("CONDA_PREFIX") else []
    roots = installations(environ)
    for folder in (Path("/etc/conda"), Path("/var/lib/conda"), *roots, configured, home / ".conda", *prefix):
        yield from (folder / name for name in (".condarc", "condarc", ".mambarc"))
    yield from (home / ".condarc", home / ".mambarc")
    for variable in ("CONDARC", "MAMBARC"):
        if environ.get(variable):
            yield Path(environ[variable])


def installations(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the conda installations that are in use."""
    for variable, up in (("CONDA_EXE", 2), ("MAMBA_ROOT_PREFIX", 0), ("CONDA_ROOT", 0)):
        if environ.get(variable):
            root = Path(environ[variable])
            yield root.parents[up - 1] if up else root
    # the active environment, and the bottom one of conda's stack of activated environments
    for variable in ("CONDA_PREFIX", "CONDA_PREFIX_1"):
        prefix = Path(environ.get(variable) or "/")
        if prefix.parent.name == "envs" and prefix.parents[1].name != ".pixi":
            yield prefix.parents[1]
        elif (prefix / "condabin").is_dir() or (prefix / "envs").is_dir():
            yield prefix


def home_of(environ: Mapping[str, str]) -> Path:
    """Return the user's home directory.

    Raises:
        UsageError: HOME is not set, and the user has no entry in the password database.
    """
    try:
        return Path(environ.get("HOME") or Path.home())
    except RuntimeError:
        raise UsageError(
            f"the user with the id {os.getuid()} has no home directory", hint="Set HOME to a directory for caches."
        ) from None


def _mapping(value: object) -> Mapping[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}


def _texts(value: object, environ: Mapping[str, str]) -> list[str]:
    """Return the texts of a list, or one text, with the variables in them replaced, as conda does."""
    items = value if isinstance(value, list) else [value]
    return [_expanded(item, environ) for item in items if isinstance(item, str) and item.strip()]


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    for name in sorted(environ, key=len, reverse=True) if "$" in text else ():
        text = text.replace(f"${{{name}}}", environ[name]).replace(f"${name}", environ[name])
    return os.path.expanduser(text) if text.startswith("~/") else text  # noqa: PTH111
