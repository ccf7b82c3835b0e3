"""Reading of the manifest of a pixi project as a spec of its default environment.

It is a ``pixi.toml``, or the tables ``tool.pixi`` of a ``pyproject.toml``. What a spec can't express is refused.
Format: https://pixi.sh/latest/reference/pixi_manifest/.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from envpack.runtime.activation.variables import RESERVED
from envpack.runtime.errors import SpecError
from envpack.spec.model import DEFAULT_VERSION, PLATFORMS, EnvSpec, as_name
from envpack.spec.nodes import Problems
from envpack.spec.parse import check_match_spec
from envpack.spec.pip_lines import parse_line
from envpack.spec.requires import Requires
from envpack.spec.variables import VARIABLE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = Mapping[str, Any]

_TARGETS = ("unix", "linux", *PLATFORMS)
_MERGED = ("dependencies", "pypi-dependencies", "activation")
_OF_TARGETS = {*_MERGED, "tasks"}
_TABLES = {*_OF_TARGETS, "workspace", "project", "target", "feature", "environments", "system-requirements"}
_TABLES |= {"pypi-options", "package", "tool", "$schema"}  # package: how the project itself is built
_WORKSPACE = {"name", "version", "channels", "channel-priority", "platforms", "pypi-options"}
_WORKSPACE |= {
    "description",
    "authors",
    "license",
    "license-file",
    "readme",
    "homepage",
    "repository",
    "documentation",
}
_WORKSPACE |= {"conda-pypi-map", "s3-options", "requires-pixi"}  # nothing that a solve gives another result for
_WORKSPACE |= {"preview", "build-variants", "build-variants-files", "target"}  # how the project itself is built
_CONDA = {"version": "version", "build": "build", "build-number": "build_number", "channel": "channel"}
_PYPI = frozenset(
    {"version", "extras", "path", "editable", "git", "url", "rev", "branch", "tag", "subdirectory"}
) | {"env-markers"}
_HINT = "Install the project with pixi, and give its lock file: envpack build pixi.lock."


def parse_pixi(text: str, source: str) -> EnvSpec:
    """Return the default environment of a project as a spec.

    Args:
        text: TOML.
        source: The file name in messages; relative paths and channels start at its folder.

    Raises:
        SpecError: The file is not valid, or uses what a spec can't express; every place is listed.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SpecError(f"{source}: not valid TOML: {reason}") from None
    problems = _Problems(source, text)
    try:
        spec = _Manifest(document, problems).spec(Path(source))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # a value of another type
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SpecError(f"{source} is not a manifest of pixi: {reason}", hint=_HINT) from None
    try:
        problems.raise_any()
    except SpecError as error:
        raise SpecError(error.message, hint=_HINT, details=error.details) from None
    return spec


class _Problems(Problems):
    """Problems at the line where a key is first written."""

    def __init__(self, source: str, text: str) -> None:
        super().__init__(source)
        self._text = text

    def at(self, key: str, text: str) -> None:
        self.add(self.line(key), text)

    def line(self, key: str) -> int:
        name = rf"[\"']?{re.escape(key)}\b"
        found = re.search(rf"^\s*\[?(?:[\w.-]*\.)?{name}", self._text, re.MULTILINE)
        found = found or re.search(rf"(?<=[{{,\s]){name}(?=[\"']?\s*=)", self._text)  # in a table on one line
        return self._text.count("\n", 0, found.start() + len(found[0])) + 1 if found else 1


class _Manifest:
    def __init__(self, document: Table, problems: _Problems) -> None:
        own: Table | None = document.get("tool", {}).get("pixi")
        self._project: Table = document.get("project", {}) if own is not None else {}
        self._pixi: Table = document if own is None else own
        self._workspace: Table = self._pixi.get("workspace") or self._pixi.get("project") or {}
        self._problems = problems

    def spec(self, path: Path) -> EnvSpec:
        if not {"workspace", "project"} & self._pixi.keys():
            raise KeyError("workspace")
        for key in [*sorted(self._pixi.keys() - _TABLES), *sorted(self._workspace.keys() - _WORKSPACE)]:
            self._problems.at(key, f"{key!r} can't be read")
        if "default" in self._pixi.get("environments", {}):
            self._problems.at("default", "a default environment with features can't be read")
        platform = self._platform()
        tables = self._tables(platform)
        requires = self._requires()
        pip = [
            *self._pip_options(),
            *self._project.get("dependencies", ()),
            *self._pip(tables["pypi-dependencies"]),
        ]
        name = self._workspace.get("name") or self._project.get("name") or path.absolute().parent.name
        return EnvSpec(
            name=as_name(str(name)) or "environment",
            channels=tuple(self._channels()),
            dependencies=tuple(self._conda(tables["dependencies"])),
            pip=tuple(line for line in map(self._checked_line, pip) if line),
            variables=self._variables(tables["activation"]),
            version=str(self._workspace.get("version") or self._project.get("version") or DEFAULT_VERSION),
            platform=platform,
            requires=requires,
            channel_priority=self._priority(),
            source=str(path),
            directory=path.parent,
        )

    def _platform(self) -> str | None:
        stated = self._list("platforms")
        if any(not isinstance(name, str) for name in stated):
            self._problems.at("platforms", "platforms with names of their own can't be read")
            return None
        known = [name for name in stated if name in PLATFORMS]
        if stated and not known:
            self._problems.at("platforms", f"none of the platforms is {' or '.join(PLATFORMS)}")
        return known[0] if len(known) == 1 else None

    def _priority(self) -> str:
        """Return the priority of channels; by default it is strict (pixi's reference of ``channel-priority``)."""
        stated = self._workspace.get("channel-priority", "strict")
        if stated not in ("strict", "disabled"):
            self._problems.at("channel-priority", f"the channel-priority {stated!r} can't be read")
        return str(stated)

    def _list(self, key: str) -> Sequence[Any]:
        stated = self._workspace.get(key, [])
        if isinstance(stated, list):
            return stated
        self._problems.at(key, f"expected a list, such as {key} = [{str(stated)!r}]")
        return []

    def _tables(self, platform: str | None) -> Mapping[str, Table]:
        """Return the tables of the default environment, with those of its targets put over them."""
        targets: Table = self._pixi.get("target", {})
        merged: dict[str, dict[str, Any]] = {name: dict(self._pixi.get(name, {})) for name in _MERGED}
        for target in _TARGETS:
            if target not in targets or (target in PLATFORMS and platform not in (None, target)):
                continue
            if target in PLATFORMS and platform is None:
                self._problems.at(target, f"a target {target!r} of a project for several platforms can't be read")
            for key in targets[target].keys() - _OF_TARGETS:
                self._problems.at(key, f"{key!r} of the target {target!r} can't be read")
            for name in _MERGED:
                stated: Table = targets[target].get(name, {})
                if name == "activation":
                    stated = {**stated, "env": {**merged[name].get("env", {}), **stated.get("env", {})}}
                merged[name].update(stated)
        return merged

    def _channels(self) -> list[str]:
        """Return the channels by descending priority, else in the order of the file."""
        channels = self._list("channels")
        tables: list[Table] = [{"channel": item} if isinstance(item, str) else item for item in channels]
        return [str(item["channel"]) for item in sorted(tables, key=lambda item: -item.get("priority", 0))]

    def _conda(self, table: Table) -> Iterator[str]:
        if "requires-python" in self._project and "python" not in table:
            table = {"python": self._project["requires-python"], **table}
        for name, value in table.items():
            stated = {"version": value} if isinstance(value, str) else dict(value)
            if unknown := stated.keys() - _CONDA.keys():
                self._problems.at(name, f"{name} with {', '.join(sorted(unknown))} can't be read")
                continue
            channel = f"{stated.pop('channel')}::" if "channel" in stated else ""
            version = stated.pop("version", "*").strip()
            others = ",".join(f"{_CONDA[key]}={str(item)!r}" for key, item in stated.items())
            text = (
                f"{channel}{name}" + (f" {version}" if version != "*" else "") + (f"[{others}]" if others else "")
            )
            if check_match_spec(text, self._problems.line(name), self._problems):
                yield text

    def _pip_options(self) -> Iterator[str]:
        options: Table = {**self._workspace.get("pypi-options", {}), **self._pixi.get("pypi-options", {})}
        for key, value in options.items():
            if key == "index-url":
                yield f"--index-url {value}"
            elif key == "extra-index-urls":
                yield from (f"--extra-index-url {url}" for url in value)
            elif key == "find-links":
                yield from (f"--find-links {item.get('path') or item['url']}" for item in value)
            elif key == "no-build-isolation" and value is True:
                yield "--no-build-isolation"
            elif key != "index-strategy":
                self._problems.at(key, f"the option {key!r} can't be read")

    def _pip(self, table: Table) -> Iterator[str]:
        for name, value in table.items():
            stated = {"version": value} if isinstance(value, str) else dict(value)
            if unknown := stated.keys() - _PYPI:
                self._problems.at(name, f"{name} with {', '.join(sorted(unknown))} can't be read")
                continue
            extras = f"[{','.join(stated['extras'])}]" if stated.get("extras") else ""
            below = f"#subdirectory={stated['subdirectory']}" if "subdirectory" in stated else ""
            marker = f" ; {stated['env-markers']}" if "env-markers" in stated else ""
            if "path" in stated:  # never editable: a bundle has no folder that could be edited
                path = stated["path"]
                yield (path if path.startswith(("/", "./", "../")) else f"./{path}") + extras + marker
            elif "git" in stated:
                reference = next((f"@{stated[key]}" for key in ("rev", "tag", "branch") if key in stated), "")
                yield f"{name}{extras} @ git+{stated['git'].removeprefix('git+')}{reference}{below}{marker}"
            elif "url" in stated:
                yield f"{name}{extras} @ {stated['url']}{below}{marker}"
            else:
                version = stated.get("version", "*").strip().removeprefix("*")
                exact = "" if version[:1] in ("", "<", ">", "=", "!", "~") else "=="
                yield f"{name}{extras}{exact}{version}{marker}"

    def _checked_line(self, text: str) -> str:
        try:
            lines = parse_line(text)
        except ValueError as error:
            self._problems.at(re.split(r"[\s\[@=<>!~]", text)[0], f"{text!r}: {error}")
            return ""
        return " ".join(line.text for line in lines)

    def _variables(self, activation: Table) -> dict[str, str]:
        for key in activation.keys() - {"env"}:
            self._problems.at(key, f"{key!r} of the activation can't be read")
        variables = {str(key): str(value) for key, value in activation.get("env", {}).items()}
        for key, value in variables.items():
            if "$" in value:
                self._problems.at(
                    key, f"{key!r} with a variable in its value can't be read: its value is literal here"
                )
            if not VARIABLE.fullmatch(key) or key in RESERVED:
                self._problems.at(key, f"{key!r} is not a name of a variable that an environment may set")
        return variables

    def _requires(self) -> Requires:
        stated: Table = self._pixi.get("system-requirements", {})
        libc = stated.get("libc", {})
        glibc = libc if isinstance(libc, str) else libc.get("version", "")
        needs = {"glibc": glibc, "cuda": str(stated.get("cuda", ""))}
        return Requires.from_dict({name: value for name, value in needs.items() if value})
