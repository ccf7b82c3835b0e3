"""Requirements to wheels, with pip: its configuration (index, proxy, certificates, cache) is the user's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from channel_maker.errors import ChannelError
from channel_maker.interpreter import Interpreter
from channel_maker.tools import find_tool, run
from channel_maker.wheels import Wheel


@dataclass(frozen=True)
class Wanted:
    """The wheels to download: requirements, requirements files, wheel files, and pip's index options."""

    requirements: tuple[str, ...] = ()
    requirement_files: tuple[Path, ...] = ()
    wheels: tuple[Path, ...] = ()
    index_options: tuple[str, ...] = ()
    dependencies: bool = True

    @property
    def needs_pip(self) -> bool:
        """Wheel files alone, taken as they are, need neither pip nor a network."""
        return bool(self.requirements or self.requirement_files or (self.wheels and self.dependencies))


def find_wheels(wanted: Wanted, interpreter: Interpreter, folder: Path) -> list[Wheel]:
    """Return the wheels that satisfy requirements.

    Args:
        wanted: The requirements.
        interpreter: The Python that the wheels are for.
        folder: A new folder for the wheels that are downloaded.

    Raises:
        ChannelError: A requirement can't be met with wheels.
    """
    given = [wheel for wheel in map(Wheel, wanted.wheels) if wheel.fits(interpreter)]
    if not wanted.needs_pip:
        return given
    folder.mkdir()
    arguments: list[str] = [*wanted.index_options]
    if not wanted.dependencies:
        arguments.append("--no-deps")
    for path in wanted.requirement_files:
        arguments += ["--requirement", str(path)]
    arguments += ["--", *wanted.requirements, *(str(wheel.path) for wheel in given)]
    if arguments[-1] == "--" and not wanted.requirement_files:
        return []
    command = [*_pip(interpreter), "download", "--quiet", "--only-binary=:all:", "--dest", str(folder)]
    result = run([*command, *arguments], environment={"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"})
    if result.status != 0:
        raise _explained(result.stderr, interpreter)
    return [Wheel(path) for path in sorted(folder.glob("*.whl"))]


def _pip(interpreter: Interpreter) -> list[str]:
    """Return the command of a pip that runs in ``interpreter``, so that markers and tags are those of this Python.

    The first one that works is used: that of the running environment, that of the interpreter, or one that uv
    downloads.
    """
    python = str(interpreter.asked)
    candidates = [[sys.executable, "-m", "pip", "--python", python], [python, "-m", "pip"]]
    uv = find_tool("uv")
    if uv is not None:
        candidates.append([str(uv), "tool", "run", "pip", "--python", python])
    for candidate in candidates:
        if run([*candidate, "--version"]).status == 0:
            return candidate
    raise ChannelError(
        f"There is no pip that works with {python}.",
        hint="Install pip or uv into this environment: python -m ensurepip",
    )


def _explained(log: str, interpreter: Interpreter) -> ChannelError:
    """pip's failure in a sentence."""
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    missing = re.search(r"No matching distribution found for (.+)", log)
    if missing:
        return ChannelError(
            f"No wheel of {missing[1].strip()} was found for Python {interpreter.version}.",
            hint="It may exist only as source, or only for other Pythons. Build a wheel with `pip wheel` and pass "
            "it with --wheel, or request another version.",
            details=errors,
        )
    return ChannelError(
        f"pip could not resolve and download the requirements for Python {interpreter.version}.",
        details=errors or _tail(log),
    )


def _tail(log: str) -> Sequence[str]:
    return log.strip().splitlines()[-10:]
