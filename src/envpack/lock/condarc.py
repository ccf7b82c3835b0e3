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
from envpack.runtime.fs.paths import is_folder
from envpack.spec.nodes import load

ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""The address of channels given by name, and the channels that conda means by ``defaults``
(https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/settings.html#default-channels).
"""


PRIORITIES = {"strict": ("strict",), "flexible": ("flexible", "true"), "disabled": ("disabled", "false")}
"""The values of ``channel_priority``, each with the names it has in files (conda/base/constants.py)."""

_PRO = "https://repo.anaconda.com/pkgs/pro"
_FILES = (".condarc", "condarc", "condarc.d", ".mambarc")
_TOKEN = re.compile(r"^/t/[^/]+(?=/)")
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
        multichannels: The channels that a name stands for, in order of priority.
        custom: The URLs of channels that are not at the alias, by name.
        priority: One of `PRIORITIES`, "" where none is stated.
    """

    channels: tuple[str, ...] = ()
    alias: str = ALIAS
    multichannels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"defaults": _DEFAULTS})
    custom: Mapping[str, str] = field(default_factory=lambda: {"pkgs/pro": _PRO})
    priority: str = ""

    def expand(self, names: Sequence[str]) -> list[str]:
        """Return channels with those that stand for others replaced, and without ``nodefaults``, which is none.

        A name or URL that ends in a platform (``conda-forge/linux-64``) is its channel, and ``<unknown>``, which
        ``conda env export`` writes for packages from files, is ``defaults`` (conda/models/channel.py).
        """
        locations = {**_by_path(self.multichannels), **self.custom}
        found: list[str] = []
        for name in (split_subdir(name)[0] for name in names):
            key = "defaults" if name == "<unknown>" else name.rstrip("/")
            members = self.multichannels.get(key, () if key == "nodefaults" else (name,))
            found.extend(_located(member, locations) for member in members)
        return list(dict.fromkeys(found))


def _by_path(multichannels: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the members of multichannels by their names, which are the paths of their URLs (``pkgs/main``).

    conda/base/context.py, ``custom_channels``; a token in the path (``/t/TOKEN/``) is no part of the name.
    """
    urls = [url for members in multichannels.values() for url in members if "://" in url]
    named = {_TOKEN.sub("", urlsplit(url).path).strip("/"): url.rstrip("/") for url in urls}
    return {name: url for name, url in named.items() if name}


def _located(name: str, locations: Mapping[str, str]) -> str:
    """Return the URL of a channel that is, or is below, one of ``locations``, else the name as it is.

    The longest name counts: ``conda-forge/label/dev`` is in the place that is stated for ``conda-forge``
    (conda/models/channel.py, ``_get_channel_for_name``; mamba's ``NameWeakener``).
    """
    parts = name.split("/")
    for end in range(len(parts), 0, -1):
        if location := locations.get("/".join(parts[:end])):
            return "/".join([location, *parts[end:]])
    return name


def channel_settings(environ: Mapping[str, str]) -> ChannelSettings:
    """Return the settings of conda's configuration files and variables (conda/base/context.py).

    These are ``channels``, ``channel_alias``, ``channel_priority``, ``default_channels``, ``custom_channels``,
    ``custom_multichannels``, mamba's ``mirrored_channels``
    (https://mamba.readthedocs.io/en/latest/user_guide/configuration.html), and the variables of the first four
    (CONDA_CHANNELS, ...). A later file has priority over an earlier one.
    """
    files = [read_configuration(file) for file in configuration_files(environ)]
    multichannels = {"defaults": _list_setting("default_channels", files, environ) or _DEFAULTS}
    custom = {"pkgs/pro": _PRO}
    for document in files:
        for name, members in _mapping(document.get("custom_multichannels")).items():
            multichannels[name] = tuple(_texts(members, environ))
        custom.update(_custom_channels(document, environ))
    alias = _text_setting("channel_alias", files, environ) or ALIAS
    priority = _text_setting("channel_priority", files, environ).lower()
    return ChannelSettings(
        _list_setting("channels", files, environ),
        alias.rstrip("/"),
        multichannels,
        custom,
        next((stated for stated, names in PRIORITIES.items() if priority in names), ""),
    )


def _custom_channels(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of ``custom_channels``, which are given without the name, and of ``mirrored_channels``."""
    custom = _mapping(document.get("custom_channels")).items()
    mirrored = _mapping(document.get("mirrored_channels")).items()
    # the mirrors of one channel are the same channel
    return {
        **{name: f"{base.rstrip('/')}/{name}" for name, bases in custom for base in _texts(bases, environ)[:1]},
        **{name: url.rstrip("/") for name, urls in mirrored for url in _texts(urls, environ)[:1]},
    }


def _list_setting(name: str, files: Sequence[Mapping[str, Any]], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the items of a variable, else those of all files, which conda merges: the last file comes first."""
    stated = [item.strip() for item in environ.get(f"CONDA_{name.upper()}", "").split(",") if item.strip()]
    merged = [text for document in reversed(files) for text in _texts(document.get(name), environ)]
    return tuple(dict.fromkeys(stated or merged))


def _text_setting(name: str, files: Sequence[Mapping[str, Any]], environ: Mapping[str, str]) -> str:
    """Return the text of a variable, else that of the last file with one; "" where there is none."""
    values = [document.get(name) for document in reversed(files)]
    texts = [str(value).lower() if isinstance(value, bool) else value for value in values]
    stated = [text for value in texts for text in _texts(value, environ)[:1]]
    return environ.get(f"CONDA_{name.upper()}") or next(iter(stated), "")


def read_configuration(file: Path) -> Mapping[str, Any]:
    """Return the content of a configuration file; empty for an unreadable one, which conda reports."""
    try:
        document = load(read_file(file).decode("utf-8"), str(file)) if file.is_file() else None
    except (OSError, UnicodeDecodeError, SpecError):
        return {}
    return _mapping(document)


def configuration_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the configuration files that conda and mamba read, the one with the highest priority last.

    Of a folder, such as ``condarc.d``, these are its YAML files. A file that is found twice keeps its first place
    (conda/common/configuration.py, ``_expand_search_path``), so that of an active base environment comes first.
    """
    for path in dict.fromkeys(_search_path(environ)):
        yield from _files_at(path)


def _search_path(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the places of configuration files, some of them folders.

    conda/base/constants.py, ``SEARCH_PATH``; mamba's are those of libmamba/src/api/configuration.cpp.
    """
    home = home_of(environ)
    user = [home / ".config" / "conda", home / ".conda"]
    if environ.get("XDG_CONFIG_HOME"):
        user.insert(0, Path(environ["XDG_CONFIG_HOME"]) / "conda")
    for folder in (Path("/etc/conda"), Path("/var/lib/conda"), *installations(environ), *user):
        yield from (folder / name for name in _FILES)
    yield from (home / ".condarc", home / ".mambarc")
    if environ.get("CONDA_PREFIX"):
        yield from (Path(environ["CONDA_PREFIX"]) / name for name in _FILES)
    for variable in ("CONDARC", "MAMBARC"):
        if environ.get(variable):
            yield Path(environ[variable])


def _files_at(path: Path) -> list[Path]:
    """Return a file, or the YAML files of a folder; none of a folder that this user may not read."""
    try:
        if not is_folder(path, follow=True):
            return [path]
        return sorted(file for file in path.iterdir() if file.suffix in (".yml", ".yaml"))
    except OSError:
        return []


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
