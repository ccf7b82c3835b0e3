"""The ``services`` and ``mounts`` of a manifest: how a named command is run, and the paths that it needs.

A spec states them with the same words, so the forms of their values are here, once.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping

COMMAND_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
"""A name of a command that is also a name of a file."""

LONGEST_STOP = 24 * 3600
"""The longest time that a command may take to stop, in seconds."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_LOOPBACK = re.compile(rf"http://(?:localhost|127(?:\.{_BYTE}){{3}}|\[::1\])(?::([0-9]{{1,5}}))?(?:/[!-~]*)?")
_CONTROL = re.compile(r"[\0-\x1f\x7f]")


@dataclass(frozen=True)
class Service:
    """How a named command is run; every value is optional.

    Attributes:
        port: The TCP port that the command listens on.
        ready: The path, or the URL on loopback, that answers 200 when the command is ready.
        mounts: Absolute paths that must exist before it starts.
        env: Environment variables of this command only.
        log: Directory for its log files, relative to the working directory; "" for standard output.
        stop: Seconds that it may take to end after SIGTERM; 0 if not stated.
    """

    port: int | None = None
    ready: str = ""
    mounts: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    stop: float = 0

    @property
    def ready_url(self) -> str:
        """Return the full URL of ``ready``, "" when there is none."""
        return f"http://127.0.0.1:{self.port}{self.ready}" if self.ready.startswith("/") else self.ready

    def at_port(self, port: int | None) -> Service:
        """Return how the command is run at another port; None: at its own.

        The variable PORT has the port (https://12factor.net/port-binding), unless ``env`` sets it for its own one.
        """
        if port is None:
            return self if self.port is None else replace(self, env={"PORT": str(self.port), **self.env})
        return replace(self, port=port, env={**self.env, "PORT": str(port)})


@dataclass(frozen=True)
class Mount:
    """A path outside the environment that commands need, such as that of model weights.

    Attributes:
        path: The absolute path.
        size: Bytes that must be in it at least; 0 if not stated.
        why: What it holds, for messages.
    """

    path: str
    size: int = 0
    why: str = ""


# --- the forms of single values; each returns the value in its normal form, or raises ValueError ---


def port_of(value: Any) -> int:
    """Return a TCP port, from 1 to 65535."""
    if type(value) is not int or not 0 < value < 1 << 16:
        raise ValueError("expected a port from 1 to 65535")
    return value


def ready_of(value: Any) -> str:
    """Return the path or the URL that answers when a command is ready."""
    text = _text(value)
    if text.startswith("/") and re.fullmatch(r"[!-~]+", text):
        return text
    match = _LOOPBACK.fullmatch(text)
    if match is None or int(match[1] or 80) not in range(1, 1 << 16):
        raise ValueError('expected a path such as "/healthz", or a URL such as "http://127.0.0.1:8000/healthz"')
    return text


def mount_of(value: Any) -> str:
    """Return an absolute path without ``..``, double slashes and a slash at its end."""
    text = _text(value)
    if not text.startswith("/") or text.startswith("//") or ".." in text.split("/") or _CONTROL.search(text):
        raise ValueError("expected an absolute path such as /models")
    return posixpath.normpath(text)


def log_of(value: Any) -> str:
    """Return a relative path of a directory that does not lead up."""
    text = _text(value)
    if not text or text.startswith("/") or ".." in text.split("/") or _CONTROL.search(text):
        raise ValueError("expected a directory below the working directory, such as logs/")
    return posixpath.normpath(text)


def stop_of(value: Any) -> float:
    """Return a number of seconds, from 1 to `LONGEST_STOP`."""
    if type(value) not in (int, float) or not 1 <= value <= LONGEST_STOP:
        raise ValueError("expected a time from 1 second to 24 hours")
    return float(value)


def _size_of(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("expected a size in bytes")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _mounts_of(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("expected a list of paths")
    return tuple(mount_of(item) for item in value)


def _env_of(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("expected texts by the names of variables")
    if not all(_VARIABLE.fullmatch(name) for name in value) or any("\0" in text for text in value.values()):
        raise ValueError("expected names of letters, digits and _, and values without NUL")
    return value


_SERVICE: Mapping[str, Callable[[Any], Any]] = {
    "port": port_of,
    "ready": ready_of,
    "mounts": _mounts_of,
    "env": _env_of,
    "log": log_of,
    "stop": stop_of,
}
_MOUNT: Mapping[str, Callable[[Any], Any]] = {"size": _size_of, "why": _text}


# --- JSON ---


def services_to_json(services: Mapping[str, Service]) -> dict[str, dict[str, Any]]:
    """Return the manifest's ``services``: by name, an object of the values that are stated."""
    return {name: _stated(service, _SERVICE) for name, service in services.items()}


def mounts_to_json(mounts: Mapping[str, Mount]) -> dict[str, dict[str, Any]]:
    """Return the manifest's ``mounts``: by path, an object of the values that are stated."""
    return {path: _stated(mount, _MOUNT) for path, mount in mounts.items()}


def _stated(value: Service | Mount, keys: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: getattr(value, key) for key in keys if getattr(value, key)}
    if "mounts" in found:
        found["mounts"] = list(found["mounts"])
    if "env" in found:
        found["env"] = dict(found["env"])
    if "stop" in found and found["stop"] == int(found["stop"]):
        found["stop"] = int(found["stop"])
    return found


def services_from_json(document: Any) -> dict[str, Service]:
    """Return the services that `services_to_json` made ``document`` from; unknown keys are ignored.

    Raises:
        ValueError: a name or a value is wrong; the message says where.
    """
    found = {}
    for name, stated in _object(document, "services").items():
        if not COMMAND_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of a command")
        found[name] = Service(**_read(stated, _SERVICE, name))
        if found[name].ready.startswith("/") and found[name].port is None:
            raise ValueError(f"{name}.ready: a path without a port")
    return found


def mounts_from_json(document: Any) -> dict[str, Mount]:
    """Return the mounts that `mounts_to_json` made ``document`` from; unknown keys are ignored.

    Raises:
        ValueError: a path or a value is wrong; the message says where.
    """
    found = {}
    for path, stated in _object(document, "mounts").items():
        if mount_of(path) != path:
            raise ValueError(f"{path!r} is not an absolute path in its normal form")
        found[path] = Mount(path, **_read(stated, _MOUNT, path))
    return found


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: an object expected")
    return value


def _read(stated: Any, keys: Mapping[str, Callable[[Any], Any]], where: str) -> dict[str, Any]:
    found = {}
    for key, value in _object(stated, where).items():
        if key in keys:
            try:
                found[key] = keys[key](value)
            except ValueError as problem:
                raise ValueError(f"{where}.{key}: {problem}") from None
    return found
