"""Parsing of a spec's text to an EnvSpec; every mistake is reported with file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from envpack.runtime.errors import SpecError
from envpack.runtime.host.checks.registry import FORMS
from envpack.runtime.host.minimum import Minimum
from envpack.runtime.report import Reporter
from envpack.spec.model import DEFAULT_VERSION, PLATFORMS, PRUNE_PROFILES, EnvSpec, as_name
from envpack.spec.nodes import (
    Node,
    Problems,
    compose,
    describe,
    is_empty,
    mapping,
    string,
    strings,
)
from envpack.spec.own_files import read_activate, read_app, read_files
from envpack.spec.pip_lines import logical_lines, parse_line
from envpack.spec.requires import Requires
from envpack.spec.services import read_commands, read_mounts
from envpack.spec.variables import read_variables
from envpack.suggest import closest, nearest

_TOP = (
    *("name", "channels", "dependencies", "pip-repositories", "allow-pypi-requests", "variables", "prefix"),
    "envpack",
)
_IGNORED = ("prefix", "platforms", "category")  # conda's own, and conda-lock's additions to environment.yml
_SECTION = (
    *("version", "platform", "requires", "exclude", "include", "prune", "test", "commands", "mounts"),
    *("files", "activate", "app"),
)
_BELONGS = {"envpack": _SECTION, "dependencies": ("pip",)}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
_SELECTORS = {"sel(linux)": True, "sel(unix)": True, "sel(osx)": False, "sel(win)": False}
"""mamba's selectors of dependencies (https://mamba.readthedocs.io/en/latest/user_guide/micromamba.html)."""
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_VARIABLE_IN_URL = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
_BUILD = re.compile(r"[A-Za-z0-9_.+*^$|()\[\]\\-]+")
_EXTRAS = re.compile(r"((?:\S+::)?[\w.-]+)(\[[\w.-]+(?:\s*,\s*[\w.-]+)*\])(.*)")
"""A conda package with pip's extras (``uvicorn[standard] >=0.12``), which conda leaves out without a word."""
_EQUALS = re.compile(
    r"((?:\S+::)?[\w.-]+)\s*="
    r"(?:=+\s*((?:[<>!~]=?[^<>=!~]+)+)|\s*([<>])\s*([^<>=!~*,|\s]+)(?:\*|(?:=|\s+)([^=\s]+))?)"
)
"""A comparison behind a ``=``, which conda leaves out. Of ``=>3`` it makes ``>3*``, and 3 itself fulfils that.
Before a build string it makes ``>3``.

Source: conda/models/match_spec.py, _sanitize_version_str.
"""


def parse_spec(text: str, source: str, reporter: Reporter | None = None) -> EnvSpec:
    """Return the spec in ``text``.

    Args:
        text: YAML.
        source: The file name in messages. Its stem is the default name of the environment, and relative paths and
            channels start at its folder.
        reporter: Receives a warning for each thing that is left out, as conda leaves it out.

    Raises:
        SpecError: The spec is wrong; the error lists every mistake with its line.
    """
    problems = Problems(source)
    root = compose(text, source)
    if root is None or is_empty(root):
        raise SpecError(f"{source}:1: the spec is empty, expected name, channels and dependencies")
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(f"{source}:1: the spec is {describe(root)}, expected a mapping with dependencies")
    values: dict[str, Node] = {}
    for key, key_node, value in mapping(root, "the spec", problems):
        if key in _TOP:
            values[key] = value
        elif key not in _IGNORED:
            _unknown_key(key, key_node, value, root, problems)
    conda, pip = _dependencies(values.get("dependencies"), problems)
    spec = EnvSpec(
        name=_name(values.get("name"), problems) or as_name(Path(source).name.split(".")[0]) or "environment",
        channels=_channels(values.get("channels"), problems),
        dependencies=conda,
        pip=(*pip, *_repositories(values, problems)),
        variables=read_variables(values["variables"], "variables", problems) if "variables" in values else {},
        source=source,
        directory=Path(source).parent,
        **_section(values.get("envpack"), problems),  # type: ignore[arg-type]
    )
    problems.raise_any()
    for note in problems.notes():
        (reporter or Reporter()).warn(note)
    return spec


def _unknown_key(key: str, node: Node, value: Node, root: yaml.MappingNode, problems: Problems) -> None:
    """Report a key that no spec has: a mistake if it was meant for envpack, else ignored as conda ignores it.

    Source: conda/env/env.py, which warns of them (EnvironmentSectionNotValid).
    """
    section = next((name for name, keys in _BELONGS.items() if key in keys), "")
    if key == "platform" and isinstance(value, yaml.SequenceNode):
        section = ""  # meant for conda-lock, whose key is `platforms`
    if section:
        problems.add(node, f"{key!r} is not a key of a spec; it belongs under '{section}:'")
    elif closest(key, _TOP) or all(name.value != "dependencies" for name, _ in root.value):
        problems.add(node, f"{key!r} is not a key of a spec{nearest(key, _TOP)}")
    else:
        problems.note(node, f"{key!r} is not a key of a spec; it is ignored, as conda ignores it")


_TEMPLATE = re.compile(r"\{\{|\{%|<%|\$[{(]")
"""What marks a value to fill in, for Jinja and cookiecutter, ERB and a shell."""


def _name(node: Node | None, problems: Problems) -> str | None:
    """Return the name, adapted where mamba takes more characters, and conda if its command line has another name.

    For an environment outside ``envs_dirs``, conda exports its path as the name (conda/base/context.py, env_name).
    """
    if node is None or is_empty(node):
        return None
    text = string(node, "name", problems)
    if text is None or _NAME.fullmatch(text):
        return text
    if _TEMPLATE.search(text):
        problems.add(node, f"name is {text!r}: the file is a template, expected one with the values filled in")
        return None
    own = text.rstrip("/").rpartition("/")[2] if text.startswith("/") else text
    name = "" if "/" in own else as_name(own)
    allowed = "letters, digits and . _ + - only"
    if name:
        problems.note(node, f"name is {text!r}; a name has {allowed}, so the environment is named {name!r}")
    else:
        problems.add(node, f"name is {text!r}, expected {allowed}")
    return name


def _checked(
    node: Node | None, what: str, pattern: re.Pattern[str], expected: str, problems: Problems
) -> str | None:
    if node is None or is_empty(node):
        return None
    text = string(node, what, problems)
    if text is not None and not pattern.fullmatch(text):
        problems.add(node, f"{what} is {text!r}, expected {expected}")
        return None
    return text


def _channels(node: Node | None, problems: Problems) -> tuple[str, ...]:
    if node is None:
        return ()
    return tuple(text for text, _ in strings(node, "channels", "a channel", problems))


def _dependencies(node: Node | None, problems: Problems) -> tuple[tuple[str, ...], tuple[str, ...]]:
    conda: list[str] = []
    pip: list[str] = []
    if node is None or is_empty(node):
        return (), ()
    if not isinstance(node, yaml.SequenceNode):
        problems.add(node, f"dependencies is {describe(node)}, expected a list ('- python=3.11')")
        return (), ()
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            conda.extend(_dependency(item, problems))
            continue
        for key, key_node, value in mapping(item, "a dependency", problems):
            if key == "pip":
                pip.extend(_pip(value, problems))
            elif (selected := _SELECTORS.get(key)) is not None:
                conda.extend(_dependency(value, problems) if selected else ())
            else:
                written = f"{key}: {value.value}" if isinstance(value, yaml.ScalarNode) else f"{key}:"
                suggestion = f"{key}={value.value}" if isinstance(value, yaml.ScalarNode) else "pip:"
                problems.add(
                    key_node,
                    f"{written!r} is a mapping, expected text such as '{suggestion}', or a 'pip:' list",
                )
    return tuple(conda), tuple(pip)


def _dependency(item: Node, problems: Problems) -> tuple[str, ...]:
    text = string(item, "a dependency", problems)
    if text is None:
        return ()
    text = text.strip()
    if match := _EXTRAS.fullmatch(text):
        problems.note(
            item,
            f"{text!r}: conda packages have no extras, so {match[2]} is ignored, as conda ignores it; list the "
            "packages of the extra too, or move the line to the 'pip:' list",
        )
        text = match[1] + match[3]
    if match := _EQUALS.fullmatch(text):
        name, comparison, operator, version, build = match.groups()
        if not comparison:
            comparison = f"{operator}{version} {build}" if build else f"{operator.replace('>', '>=')}{version}"
        read = f"{name} {comparison}"
        problems.note(item, f"{text!r} is read as {read!r}, as conda reads it")
        text = read
    return (text,) if check_match_spec(text, item, problems) else ()


def check_match_spec(text: str, position: Node | int, problems: Problems) -> bool:
    """Return whether a text is a conda MatchSpec that means what it seems to mean; if not, that is a problem."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    example = "a conda package such as python, python=3.11, 'numpy >=1.26,<2' or conda-forge::numpy"
    try:
        parsed = MatchSpec(text)
    except InvalidMatchSpecError as error:
        reason = str(error).splitlines()[0]
        problems.add(
            position, f"{text!r} is not a conda requirement ({reason}); expected {example}{_pip_hint(text)}"
        )
        return False
    if text.lstrip().startswith("-") or (parsed.build and not _BUILD.fullmatch(parsed.build)):
        problems.add(position, f"{text!r} is not a conda requirement; expected {example}{_pip_hint(text)}")
        return False
    return True


def _pip_hint(text: str) -> str:
    if any(mark in text for mark in ("[", ";", "@", "--", "git+")) or text.startswith("-"):
        return "; a pip requirement belongs in the 'pip:' list"
    return ""


def _pip(node: Node, problems: Problems) -> list[str]:
    items = strings(node, "pip", "a pip requirement", problems)
    lines = logical_lines(text for text, _ in items)
    return [line for position, text in lines for line in _pip_line(text, items[position][1], problems)]


def _pip_line(text: str, item: Node, problems: Problems) -> list[str]:
    try:
        return [line.text for line in parse_line(text)]
    except ValueError as error:
        problems.add(item, f"{text!r}: {error}")
        return []


def _repositories(values: Mapping[str, Node], problems: Problems) -> Iterator[str]:
    """Yield the options for the package indexes that conda-lock reads from a spec, beside PyPI or in its place.

    Source: https://conda.github.io/conda-lock/authentication/
    """
    node, allowed = values.get("pip-repositories"), values.get("allow-pypi-requests")
    urls = [url for url, _ in strings(node, "pip-repositories", "a URL", problems)] if node is not None else []
    only = allowed is not None and not _truth(allowed, "allow-pypi-requests", problems)
    if only and not urls:
        yield "--no-index"
    for number, url in enumerate(urls):
        option = "--index-url" if only and number == 0 else "--extra-index-url"
        yield f"{option} " + _VARIABLE_IN_URL.sub(r"${\1}", url)


def _truth(node: Node, what: str, problems: Problems) -> bool:
    value = node.value.lower() if isinstance(node, yaml.ScalarNode) else ""
    if value not in ("true", "false"):
        problems.add(node, f"{what} is {describe(node)}, expected true or false")
    return value == "true"


def _section(node: Node | None, problems: Problems) -> dict[str, object]:
    """Return the ``envpack:`` section as keyword arguments of EnvSpec."""
    found: dict[str, object] = {}
    if node is None:
        return found
    readers: dict[str, Callable[[Node], object]] = {
        "version": lambda value: _checked(value, "version", _VERSION, 'a version such as "1.4.0"', problems),
        "platform": lambda value: _platform(value, problems),
        "requires": lambda value: _requires(value, problems),
        "exclude": lambda value: _globs(value, "exclude", problems),
        "include": lambda value: _globs(value, "include", problems),
        "prune": lambda value: _prune(value, problems),
        "test": lambda value: tuple(text for text, _ in strings(value, "test", "a test command", problems)),
        "commands": lambda value: read_commands(value, problems),
        "mounts": lambda value: read_mounts(value, problems),
        "files": lambda value: read_files(value, problems),
        "activate": lambda value: read_activate(value, problems),
        "app": lambda value: read_app(value, problems),
    }
    for key, key_node, value in mapping(node, "envpack", problems):
        if key not in _SECTION:
            problems.add(key_node, f"{key!r} is not a key of 'envpack:'{nearest(key, _SECTION)}")
        else:
            found[key] = readers[key](value)
    if "commands" in found:
        found["commands"], found["services"] = found["commands"]  # type: ignore[misc]
    found["version"] = found.get("version") or DEFAULT_VERSION
    return found


def _platform(node: Node, problems: Problems) -> str | None:
    text = string(node, "platform", problems)
    if text is not None and text not in PLATFORMS:
        problems.add(node, f"platform {text!r} is not supported; expected {' or '.join(PLATFORMS)}")
        return None
    return text


def _requires(node: Node, problems: Problems) -> Requires:
    found: dict[str, Minimum] = {}
    for key, key_node, value in mapping(node, "requires", problems):
        if key not in FORMS:
            problems.add(key_node, f"{key!r} is not a known requirement{nearest(key, FORMS)}")
            continue
        text = string(value, f"requires {key}", problems)
        if text is None:
            continue
        try:
            found[key] = FORMS[key].minimum(text)
        except ValueError as error:
            problems.add(value, f"requires {key} is {describe(value)}, {error}")
    return Requires(found)


def _globs(node: Node, what: str, problems: Problems) -> tuple[str, ...]:
    found = []
    for text, item in strings(node, what, f"a glob of {what}", problems):
        if text.startswith("/") or ".." in text.split("/"):
            problems.add(item, f"{text!r} is not a path in the environment, expected one such as share/doc/**")
        else:
            found.append(text)
    return tuple(found)


def _prune(node: Node, problems: Problems) -> tuple[str, ...]:
    found = []
    for text, item in strings(node, "prune", "a prune profile", problems):
        if text not in PRUNE_PROFILES:
            problems.add(item, f"{text!r} is not a prune profile{nearest(text, PRUNE_PROFILES)}")
        else:
            found.append(text)
    return tuple(found)
