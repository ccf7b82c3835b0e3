"""Locations in lock files: those of pip packages in the forms of pixi, rattler, conda-lock and PEP 508."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from envpack.runtime.errors import SpecError
from envpack.runtime.transport.redact import without_secrets

_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_REFERENCES = ("rev", "tag", "branch")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Location(NamedTuple):
    """A location as `LockedPypi` has it, and the sha256 that was written with it, "" when there is none."""

    text: str
    sha256: str = ""


def parse_location(written: str, folder: Path) -> Location:
    """Return the location that a lock file states.

    Forms (rattler_lock, ``UrlOrPath`` and ``PypiPackageData``; https://peps.python.org/pep-0508/):
    ``direct+URL``, ``git+URL?subdirectory=SUB&rev=NAME#COMMIT``, ``git+URL@COMMIT#subdirectory=SUB``,
    ``URL#sha256=HEX&subdirectory=SUB``, and paths.

    Args:
        written: The text in the file.
        folder: The folder that relative paths start at.

    Raises:
        ValueError: A repository is given without its commit.
    """
    written = written.removeprefix("direct+")
    if "://" not in written:
        path = os.path.normpath(folder.absolute() / written.partition("#")[0])
        digest = _fragment(written.partition("#")[2]).get("sha256", "")
        return Location(Path(path).as_uri() if Path(path).is_file() else path, digest)
    url, _, fragment = written.partition("#")
    if url.startswith("git+"):
        return Location(_repository(url, fragment))
    stated = _fragment(fragment)
    return Location(with_subdirectory(url, stated.get("subdirectory", "")), stated.get("sha256", ""))


def with_subdirectory(location: str, subdirectory: str) -> str:
    """Return a location with the folder in it that has the project; unchanged when ``subdirectory`` is ""."""
    return f"{location}#subdirectory={subdirectory}" if subdirectory else location


def split_subdirectory(location: str) -> tuple[str, str]:
    """Return the two arguments of `with_subdirectory` for a location."""
    url, _, fragment = location.partition("#")
    return url, _fragment(fragment).get("subdirectory", "")


def _fragment(text: str) -> dict[str, str]:
    found = dict(part.split("=", 1) for part in text.split("&") if "=" in part)
    if not _SHA256.fullmatch(found.get("sha256", "")):
        found.pop("sha256", None)
    return {key: unquote(value) for key, value in found.items()}


def _repository(url: str, fragment: str) -> str:
    """Return ``git+URL@COMMIT[#subdirectory=SUB]``."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    named = next((query[key] for key in _REFERENCES if key in query), "")
    subdirectory = query.get("subdirectory") or _fragment(fragment).get("subdirectory", "")
    # an '@' before the path belongs to the host: ssh://git@host/path
    path, _, reference = parts.path.rpartition("@") if "@" in parts.path else (parts.path, "", "")
    candidates = (fragment, reference, named)
    commit = next((text for text in candidates if _COMMIT.fullmatch(text)), "")
    if not commit:
        raise ValueError(f"{without_secrets(url)} has no commit, expected git+URL#COMMIT or git+URL@COMMIT")
    # not urlunsplit, which drops the empty host of git+file:///
    return with_subdirectory(f"{parts.scheme}://{parts.netloc}{path}@{commit}", subdirectory)


def with_variables(url: str, what: str = "URL") -> str:
    """Return a URL with the user's variables, by which specs and conda-lock keep passwords out of their files.

    As conda does it for the channels of a spec (conda/env/env.py), but a variable that is not set is an error.

    Args:
        url: The URL.
        what: What it is, for messages.

    Raises:
        SpecError: A variable in braces is not set.
    """
    expanded = os.path.expandvars(url)
    if missing := re.search(r"\$\{(\w+)\}", expanded):
        raise SpecError(
            f"the {what} {without_secrets(url)} needs the variable {missing[1]}, which is not set",
            hint=f"Set it: export {missing[1]}=...",
        )
    return expanded
