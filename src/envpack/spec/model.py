"""EnvSpec: the content of a spec, checked, before any package is looked up."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpack.runtime.format.services import (
    Mount,
    Service,
    mounts_from_json,
    mounts_to_json,
    services_from_json,
    services_to_json,
)
from envpack.spec.credentials import without_credentials
from envpack.spec.requires import Requires

DEFAULT_CHANNELS = ("conda-forge",)
"""Channels of a spec that names none: the one that a fresh Miniforge, micromamba or pixi uses."""

DEFAULT_VERSION = "0.0.0"
"""Version of a spec that gives none: a valid version, older than every release."""

PLATFORMS = ("linux-64", "linux-aarch64")
"""The conda subdirs that an environment can be built, packed and deployed for."""

PRUNE_PROFILES = ("tests", "docs", "headers", "static", "bytecode")
"""Names that a spec's ``prune:`` may list; the rules of each are in ``prefix/scan/prune.json``."""


def as_name(text: str) -> str:
    """Return ``text`` as the name of an environment, with ``-`` for what no name has; "" when nothing is left."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip("-.+").rstrip("-.")


@dataclass(frozen=True)
class EnvSpec:
    """An environment as a spec describes it.

    Args:
        name: The name of the environment.
        channels: conda channels, in order of priority.
        dependencies: conda MatchSpec strings.
        pip: Lines of a requirements file, options included; relative paths in them start at ``directory``.
        variables: Environment variables to set on activation.
        version: The version of the environment.
        platform: A conda subdir of `PLATFORMS`; None for the platform that envpack runs on.
        requires: Minimums that the host must meet.
        exclude: Globs of files to leave out.
        include: Globs of files to keep of those that ``exclude`` and ``prune`` leave out.
        prune: Names of `PRUNE_PROFILES`.
        test: Shell commands that test the environment.
        commands: Shell commands of the bundle, by name.
        services: How commands are run, for those with more than a shell command, by name.
        mounts: Paths outside the environment that commands need, by path.
        files: Own files and directories, relative to ``directory``, by their path in the environment.
        activate: Activation scripts, relative to ``directory``.
        app: Directories of applications, relative to ``directory``, by their path in the environment.
        channel_priority: conda's ``channel_priority``, "" for that of conda's configuration.
        source: The file it was read from, for messages.
        directory: The folder of that file.
    """

    name: str
    channels: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    version: str = DEFAULT_VERSION
    platform: str | None = None
    requires: Requires = field(default_factory=Requires)
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    prune: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    activate: tuple[str, ...] = ()
    app: Mapping[str, str] = field(default_factory=dict)
    channel_priority: str = ""
    source: str = field(default="", compare=False)
    directory: Path = field(default=Path(), compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields but ``source`` and ``directory`` as JSON values; empty ones are left out."""
        everything: dict[str, Any] = {
            "name": self.name,
            "channels": list(self.channels),
            "dependencies": list(self.dependencies),
            "pip": list(self.pip),
            "variables": dict(self.variables),
            "version": self.version,
            "platform": self.platform,
            "requires": self.requires.as_dict(),
            "exclude": list(self.exclude),
            "include": list(self.include),
            "prune": list(self.prune),
            "test": list(self.test),
            "commands": dict(self.commands),
            "services": services_to_json(self.services),
            "mounts": mounts_to_json(self.mounts),
            "files": dict(self.files),
            "activate": list(self.activate),
            "app": dict(self.app),
            "channel_priority": self.channel_priority,
        }
        return {key: value for key, value in everything.items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "", directory: Path = Path()) -> EnvSpec:
        """Return the spec that `as_dict` made ``values`` from.

        Args:
            values: The result of `as_dict`.
            source: The path of the spec.
            directory: The folder that relative paths start at.
        """
        return cls(
            name=values["name"],
            channels=tuple(values.get("channels", ())),
            dependencies=tuple(values.get("dependencies", ())),
            pip=tuple(values.get("pip", ())),
            variables=dict(values.get("variables", {})),
            version=values.get("version", DEFAULT_VERSION),
            platform=values.get("platform"),
            requires=Requires.from_dict(values.get("requires", {})),
            exclude=tuple(values.get("exclude", ())),
            include=tuple(values.get("include", ())),
            prune=tuple(values.get("prune", ())),
            test=tuple(values.get("test", ())),
            commands=dict(values.get("commands", {})),
            services=services_from_json(values.get("services", {})),
            mounts=mounts_from_json(values.get("mounts", {})),
            files=dict(values.get("files", {})),
            activate=tuple(values.get("activate", ())),
            app=dict(values.get("app", {})),
            channel_priority=values.get("channel_priority", ""),
            source=source,
            directory=directory,
        )

    def digest(self) -> str:
        """Return the sha256 (hex) of all that `as_dict` returns; a lock made from the spec records it.

        Credentials do not count: a password could be guessed from the digest.
        """
        text = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(without_credentials(text).encode()).hexdigest()
