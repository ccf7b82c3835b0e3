"""EnvSpec: what a spec says, checked, with nothing looked up yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envpack.spec.requires import Requires

DEFAULT_CHANNELS = ("conda-forge",)
"""Channels of a spec that names none: the one a fresh Miniforge, micromamba or pixi uses."""

DEFAULT_VERSION = "0.0.0"
"""Version of a spec that gives none: a valid version, older than every release."""

PLATFORMS = ("linux-64", "linux-aarch64")
"""The conda subdirs an environment can be built, packed and deployed for."""

PRUNE_PROFILES = ("tests", "docs", "headers", "static", "bytecode")
"""Names a spec's ``prune:`` may list; the rules of each stand in ``prefix/scan/prune.json``."""


@dataclass(frozen=True)
class EnvSpec:
    """An environment as a person describes it.

    ``dependencies`` are conda MatchSpec strings; ``pip`` are lines of a requirements file, options included,
    whose relative paths start at ``directory``; ``platform`` None means the platform envpack runs on.
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
    source: str = field(default="", compare=False)
    directory: Path = field(default=Path(), compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Everything but where it was read from, as JSON values; what is at its default is left out."""
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
        }
        return {key: value for key, value in everything.items() if value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "", directory: Path = Path()) -> EnvSpec:
        """The inverse of `as_dict`."""
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
            source=source,
            directory=directory,
        )

    def digest(self) -> str:
        """sha256 (hex) of everything the spec says: a lock made from it records this."""
        text = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
