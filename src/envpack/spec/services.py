"""Reading of a spec's ``commands:`` and ``mounts:``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from envpack.runtime.format.services import (
    COMMAND_NAME,
    Mount,
    Service,
    log_of,
    mount_of,
    port_of,
    ready_of,
    stop_of,
)
from envpack.runtime.host.minimum import size
from envpack.spec.nodes import Node, Problems, describe, mapping, string, strings
from envpack.spec.variables import read_variables
from envpack.suggest import nearest

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_SIZE = size("the size of a mount", "60 GB")
_MOUNT = ("size", "why")


def read_commands(node: Node, problems: Problems) -> tuple[dict[str, str], dict[str, Service]]:
    """Return the shell commands by name, and how those with more than a shell command are run.

    Args:
        node: The node of ``commands:``: a mapping of names to shell commands, or to mappings with ``run``.
        problems: Receives the problems.
    """
    commands: dict[str, str] = {}
    services: dict[str, Service] = {}
    for name, key_node, value in mapping(node, "commands", problems):
        if not COMMAND_NAME.fullmatch(name):
            problems.add(key_node, f"command {name!r}: expected a name of letters, digits and . _ + - only")
            continue
        what = f"command {name}"
        if not isinstance(value, yaml.MappingNode):
            _add_run(commands, name, value, what, problems)
            continue
        stated: dict[str, Any] = {}
        nodes = {key: (part_node, part) for key, part_node, part in mapping(value, what, problems)}
        for key, (part_node, part) in nodes.items():
            if key == "run":
                _add_run(commands, name, part, f"{what}: run", problems)
            elif key not in _READERS:
                known = nearest(key, ("run", *_READERS))
                problems.add(part_node, f"{key!r} is not a key of a command{known}")
            else:
                stated[key] = _READERS[key](part, f"{what}: {key}", problems)
        if "run" not in nodes:
            problems.add(key_node, f"{what} has no 'run', expected its shell command")
        service = Service(**{key: found for key, found in stated.items() if found is not None})
        if service.ready.startswith("/") and "port" not in nodes:
            problems.add(nodes["ready"][0], f"{what}: ready is a path, which needs a 'port' too")
        if service != Service():
            services[name] = service
    return commands, services


def _add_run(commands: dict[str, str], name: str, node: Node, what: str, problems: Problems) -> None:
    text = string(node, what, problems)
    if text is not None and not text.strip():
        problems.add(node, f"{what} is empty, expected a shell command")
    elif text is not None:
        commands[name] = text


def read_mounts(node: Node, problems: Problems) -> dict[str, Mount]:
    """Return the mounts by path.

    Args:
        node: The node of ``mounts:``: a mapping of absolute paths to nothing, or to mappings with size and why.
        problems: Receives the problems.
    """
    found: dict[str, Mount] = {}
    for key, key_node, value in mapping(node, "mounts", problems):
        try:
            path = mount_of(key)
        except ValueError as error:
            problems.add(key_node, f"mount {key!r}: {error}")
            continue
        least, why = 0, ""
        for name, name_node, part in mapping(value, f"mount {key}", problems):
            if name == "size":
                least = _value(part, f"mount {key}: size", problems, _bytes) or 0
            elif name == "why":
                why = " ".join((string(part, f"mount {key}: why", problems) or "").split())
            else:
                problems.add(name_node, f"{name!r} is not a key of a mount{nearest(name, _MOUNT)}")
        if path in found:
            problems.add(key_node, f"mount {path} is given twice")
        found[path] = Mount(path, least, why)
    return found


def _bytes(text: str) -> int:
    return int(_SIZE.minimum(text).minimum)


def _stop(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError('expected a time with its unit, such as "30s" or "2m"')
    return stop_of(float(match[1]) * _SECONDS[match[2]])


def _port(text: str) -> int:
    return port_of(int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else None)


def _value(node: Node, what: str, problems: Problems, read: Callable[[str], Any]) -> Any:
    """Return the value of a text, None where it is wrong, which is a problem."""
    text = string(node, what, problems)
    if text is None:
        return None
    try:
        return read(text)
    except ValueError as error:
        problems.add(node, f"{what} is {describe(node)}, {error}")
        return None


def _mounts(node: Node, what: str, problems: Problems) -> tuple[str, ...]:
    items = [item for _, item in strings(node, what, "a mount", problems)]
    found = [_value(item, f"{what}: a mount", problems, mount_of) for item in items]
    return tuple(dict.fromkeys(path for path in found if path is not None))


def _of_text(read: Callable[[str], Any]) -> Callable[[Node, str, Problems], Any]:
    return lambda node, what, problems: _value(node, what, problems, read)


_READERS: Mapping[str, Callable[[Node, str, Problems], Any]] = {
    "port": _of_text(_port),
    "ready": _of_text(ready_of),
    "mounts": _mounts,
    "env": read_variables,
    "log": _of_text(log_of),
    "stop": _of_text(_stop),
}
"""The keys of a command beside ``run``; each reader returns a value of `Service`, None where it is wrong."""
