"""Credentials for registries from the files and helper programs of docker and podman; they are never printed."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple

from envpack.runtime.errors import EnvpackError, UsageError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value

_MAX_FILE = 4 << 20
_HELPER_SECONDS = 120.0
"""Seconds that a helper may take: it may ask a person for the password of a keychain."""
_IDENTITY = "<token>"
"""The user that a helper returns with an identity token (docker-credential-helpers, "Secret is a token")."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = "credentials not found"
"""What helpers print when they have none (docker-credential-helpers, credentials/error.go)."""
_DOCKER_HUB = {"docker.io": "https://index.docker.io/v1/"}
"""The key of Docker's registry in configuration files, by the name in references."""


class Credentials(NamedTuple):
    """Credentials for a registry; all are "" for an anonymous request.

    Attributes:
        user, password: for HTTP Basic, or for the token service.
        identity: an identity token (OAuth 2 refresh token), which the token service takes instead.
        token: a token for the registry itself.
    """

    user: str = ""
    password: str = ""
    identity: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return "Credentials(...)"


def find_credentials(registry: str, repository: str, environ: Mapping[str, str]) -> Credentials:
    """Return the credentials of a registry; empty ones where there are none.

    The files are ``$REGISTRY_AUTH_FILE``, docker's (``$DOCKER_CONFIG/config.json``, ``~/.docker/config.json``) and
    podman's (``$XDG_RUNTIME_DIR/containers/auth.json``). In each, a helper of ``credHelpers`` takes precedence
    over ``credsStore``, and that over ``auths``.

    Args:
        registry: host and port.
        repository: the repository; podman's file may have credentials for a part of a registry.
        environ: environment variables.

    Raises:
        UsageError: a file is not valid.
        EnvpackError: a helper failed.
    """
    key = _DOCKER_HUB.get(registry, registry)
    for path in _files(environ):
        config = _read(path)
        helper = _table(config, "credHelpers").get(key) or config.get("credsStore")
        if isinstance(helper, str) and helper:
            found = _ask_helper(helper, key, environ)
            if found is not None:
                return found
        for name in _keys(registry, key, repository):
            entry = _table(config, "auths").get(name)
            if isinstance(entry, dict) and entry:
                return _of_entry(entry, path)
    return Credentials()


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    home = environ.get("HOME") or os.path.expanduser("~")
    yield Path(environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"], "containers", "auth.json")


def _keys(registry: str, key: str, repository: str) -> Iterator[str]:
    """Yield the names that an entry may have, the most specific first (containers-auth.json(5))."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join([registry, *parts[:count]])
    yield from (key, registry, f"https://{registry}", f"https://{registry}/v1/", f"https://{registry}/v2/")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json_value(read_file(path, _MAX_FILE) or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    except ValueError:
        raise UsageError(
            f"{path} is not JSON", hint="Log in again with 'docker login' or 'podman login'."
        ) from None
    return value if isinstance(value, dict) else {}


def _table(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def _of_entry(entry: Mapping[str, Any], path: Path) -> Credentials:
    identity, token, auth = (_text(entry.get(name)) for name in ("identitytoken", "registrytoken", "auth"))
    user, password = _text(entry.get("username")), _text(entry.get("password"))
    if auth:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise UsageError(f"{path}: an entry of 'auths' is not valid", hint="Log in again.")
    return Credentials(user, password.rstrip("\0"), identity, token)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _ask_helper(name: str, server: str, environ: Mapping[str, str]) -> Credentials | None:
    """Return what a helper has; None where it has nothing. The protocol is that of docker-credential-helpers."""
    program = f"docker-credential-{name}"
    if not _NAME.fullmatch(name):
        raise UsageError("the configuration of docker names an invalid credential helper")
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            timeout=_HELPER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "no response"
        raise EnvpackError(
            f"{program}: {reason}", hint="The configuration of docker names this program for credentials."
        ) from None
    if done.returncode:
        if _NOT_FOUND in done.stdout.decode("utf-8", "replace"):
            return None
        raise EnvpackError(
            f"{program} failed with exit code {done.returncode}", hint=f"Try 'echo {server} | {program} get'."
        )
    try:
        value = json_value(done.stdout)
        user, secret = value["Username"], value["Secret"]
    except (ValueError, LookupError, TypeError):
        raise EnvpackError(f"{program} returned no credentials") from None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise EnvpackError(f"{program} returned no credentials")
    return Credentials(identity=secret) if user == _IDENTITY else Credentials(user, secret)
