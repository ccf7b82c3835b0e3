"""Starting a command of a deployment: this process becomes it, or starts it and waits until it is ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, NoReturn, Sequence

from envpack.runtime.commands.check import check
from envpack.runtime.errors import (
    EnvpackError,
    ReadyError,
    StartError,
    UsageError,
    failed_path,
    path_hint,
)
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.format.services import Mount, Service
from envpack.runtime.report import PlainReporter, Reporter
from envpack.runtime.service.command_line import shell_line
from envpack.runtime.service.environment import activated, own_environment, refusal, restore_signals
from envpack.runtime.service.interactive import activates_itself, interactive, shell_of
from envpack.runtime.service.log import last_lines, open_log
from envpack.runtime.service.mounts import require_mounts
from envpack.runtime.service.ports import require_free
from envpack.runtime.service.process_group import end_group
from envpack.runtime.service.ready import wait_ready
from envpack.runtime.service.starts import record_ready, record_start, starts_of
from envpack.runtime.tree.head import read_manifest
from envpack.runtime.tree.prefix import own_prefix

STDOUT = "-"
"""The value of ``--log`` for no log file."""

DEFAULT_LOG = "logs"
"""The folder for the log of a command that is not waited for to end, and whose spec states none."""

_STOP = 10.0
"""Seconds between SIGTERM and SIGKILL for a command whose spec states none."""

_KILLED = "It was killed, often because the memory is used up; 'dmesg' or the container's events say so."
_ENDED = {
    0: "It must stay in the foreground to be waited for: remove '&', nohup or --daemon from the command.",
    127: "A program of its command was not found: the log names it. Add its package to the spec.",
    -signal.SIGKILL: _KILLED,
    128 + signal.SIGKILL: _KILLED,
}
"""What to do about a command that has ended, by its status; a shell adds 128 to a signal (POSIX, XCU 2.8.2)."""


@dataclass(frozen=True)
class Started:
    """A named command that was started and is ready.

    Attributes:
        destination: The deployment, as text.
        command: The name of the command.
        pid: Its process.
        log: The path of its log file.
        ready_seconds: Seconds from its start until it was ready.
    """

    destination: str
    command: str
    pid: int
    log: str
    ready_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.run/1``."""
        return dict(vars(self))


@dataclass(frozen=True)
class _Prepared:
    """A command that may be started: what to execute, in which environment, and how its spec describes it."""

    root: Path
    name: str
    argv: list[str]
    environment: dict[bytes, bytes]
    service: Service


def require_program(
    name: str | None, words: Sequence[str], wait_ready: float | None, port: int | None = None
) -> None:
    """Check that a command line says what to run.

    Args:
        name: The name of a command.
        words: What follows ``--``.
        wait_ready: Seconds to wait until the command is ready; None to become it.
        port: The port to start the command at; None for its own.

    Raises:
        UsageError: It does not, or there is no such port.
    """
    if name is None and not words:
        raise UsageError("what to run is missing", hint="Give the name of a command, or -- and a program.")
    if name is None and wait_ready is not None:
        raise UsageError("--wait-ready is for a named command", hint="Give the name of a command.")
    if name is None and port is not None:
        raise UsageError("--port is for a named command", hint="Give the name of a command.")
    require_port(port)


def require_port(port: int | None) -> None:
    """Raise UsageError for a number that is no TCP port."""
    if port is not None and not 0 < port < 1 << 16:
        raise UsageError(f"--port {port}: expected a port from 1 to 65535")


def run(
    destination: Path,
    name: str | None,
    arguments: Sequence[str],
    *,
    log: str | None = None,
    port: int | None = None,
    reporter: Reporter,
) -> NoReturn:
    """Become a command of a deployment, with the deployment activated and in the working directory of the caller.

    Args:
        destination: The deployment.
        name: The name of a command of its bundle; None to run ``arguments`` themselves.
        arguments: Arguments of the named command, or a program and its arguments.
        log: A folder for the log file instead of the spec's, or `STDOUT`.
        port: The port of the named command instead of the spec's.
        reporter: Receives the path of the log file.

    Raises:
        StartError: The command is not started; every error before it is one of these.
    """
    prepared = _prepare(destination, name, arguments, port)
    folder = prepared.service.log if log is None else log
    if folder and folder != STDOUT and name is not None:
        path, fd = _open_log(folder, name)
        reporter.note(f"log: {path}")
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(fd, 1)
        os.dup2(fd, 2)
    if name is not None:
        record_start(prepared.root, name, os.getpid(), time.time())
    _become(prepared.argv, prepared.environment)


def start(
    destination: Path,
    name: str,
    arguments: Sequence[str],
    *,
    seconds: float,
    log: str | None = None,
    port: int | None = None,
    reporter: Reporter,
) -> Started:
    """Start a named command in the background, in a session of its own, and wait until it is ready.

    When it is not ready in time, or the wait is interrupted, it is stopped again.

    Args:
        destination: The deployment.
        name: The name of the command; its spec must state a port or a ready URL.
        arguments: Its arguments.
        seconds: The time to wait.
        log: A folder for the log file instead of the spec's; it always has one.
        port: The port of the command instead of the spec's.
        reporter: Receives the path of the log file.

    Raises:
        StartError: The command is not started.
        ReadyError: It ended before, or was not ready in time.
    """
    prepared = _prepare(destination, name, arguments, port)
    service = prepared.service
    if service.port is None and not service.ready:
        raise StartError(
            f"the command {name!r} states neither a port nor a ready URL, so no one can tell when it is ready",
            hint="Add 'port:' or 'ready:' to the command in the spec, or run it without --wait-ready.",
        )
    if log == STDOUT:
        raise StartError("a command in the background needs a log file", hint="Give a folder: --log DIR.")
    path, fd = _open_log(log or service.log or DEFAULT_LOG, name)
    reporter.note(f"log: {path}")
    begun = time.monotonic()
    try:
        process = subprocess.Popen(
            prepared.argv,
            env=prepared.environment,
            stdin=subprocess.DEVNULL,
            stdout=fd,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        os.close(fd)
    try:
        record_start(prepared.root, name, process.pid, time.time())
        ready = wait_ready(process, service, seconds)
        took = time.monotonic() - begun
        status = process.poll()
        if not ready:
            raise _not_ready(name, status, took, path)
        record_ready(prepared.root, name, took)
    except BaseException:
        end_group(process, service.stop or _STOP)
        raise
    process.returncode = 0  # it goes on without this process: Python's warning about that is not wanted
    return Started(str(prepared.root), name, process.pid, str(path), round(took, 3))


def shell(destination: Path, environ: Mapping[str, str]) -> NoReturn:
    """Become the user's interactive shell, with the deployment activated in it.

    Raises:
        StartError: The deployment can't be activated, or the shell can't be run.
    """
    root = Path(os.path.abspath(destination))
    manifest_of(root)
    _require_usable(root)
    program, environment = shell_of(environ), activated(root)
    if activates_itself(program):
        environment = own_environment()
    _become(interactive(program, root), environment)


def manifest_of(root: Path) -> Manifest:
    """Return the manifest of the deployment at ``root``.

    Raises:
        StartError: There is none, or it was changed.
    """
    try:
        return read_manifest(root)
    except EnvpackError as error:
        raise StartError(error.message, hint=error.hint or "Give the path of a deployment.") from None


def command_of(manifest: Manifest, name: str) -> str:
    """Return the shell command of this name.

    Raises:
        StartError: There is none.
    """
    if name not in manifest.commands:
        known = ", ".join(sorted(manifest.commands))
        raise StartError(
            f"{manifest.name} {manifest.version} has no command {name!r}",
            hint=f"Its commands are: {known}." if known else "It has no commands. For any program: -- PROGRAM ...",
        )
    return manifest.commands[name]


def _not_ready(name: str, status: int | None, took: float, log: Path) -> ReadyError:
    hint = ""
    if status is None:
        message = f"{name} was not ready after {took:.0f} s, and was stopped"
    else:
        hint = _ENDED.get(status, "")
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        message = f"{name} ended with {ended} after {took:.1f} s"
    return ReadyError(f"{message}; its log is {log}", hint=hint, details=last_lines(log))


def _prepare(destination: Path, name: str | None, arguments: Sequence[str], port: int | None) -> _Prepared:
    root = Path(os.path.abspath(destination))
    manifest = manifest_of(root)
    if name is None:
        _require_usable(root)
        return _Prepared(root, "", list(arguments), activated(root), Service())
    command = command_of(manifest, name)
    service = manifest.services.get(name, Service()).at_port(port)
    _require_usable(root)
    environment = activated(root)
    environment.update((os.fsencode(key), os.fsencode(value)) for key, value in service.env.items())
    require_mounts(manifest.mounts.get(path, Mount(path)) for path in service.mounts)
    if service.port is not None:
        require_free(service.port, starts_of(root, name).pid, name)
    argv = ["/bin/sh", "-c", shell_line(command, arguments), name, *arguments]
    return _Prepared(root, name, argv, environment, service)


def _require_usable(root: Path) -> None:
    """Do what an activation does before its scripts, but report a failure as one error of this command.

    Raises:
        StartError: A requirement on the host is not met, or the path can't be written into the files.
    """
    try:
        if not own_prefix(root):
            from envpack.runtime.tree.rewrite_prefix import rewrite_prefix  # only here: it takes its time

            rewrite_prefix(root, PlainReporter(prefix="envpack: "))
    except EnvpackError as error:
        raise StartError(error.message, hint=error.hint, details=error.details) from None
    except OSError as problem:
        raise StartError(f"{failed_path(problem, root)}: {problem.strerror}", hint=path_hint(problem)) from None
    lines = refusal(root)
    if not lines:
        return
    try:
        check(root).require("ENVPACK_SKIP_CHECK=1 skips this check.")
    except EnvpackError as error:
        raise StartError(error.message, hint=error.hint, details=error.details) from None
    raise StartError(lines[0].partition("error: ")[2] or lines[0], details=[line.strip() for line in lines[1:]])


def _open_log(folder: str, name: str) -> tuple[Path, int]:
    return open_log(Path(folder), name)


def _become(argv: list[str], environment: dict[bytes, bytes]) -> NoReturn:
    """Replace this process by a program that is found on the PATH of ``environment``."""
    restore_signals()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as problem:
        raise StartError(f"{argv[0]} can't be run: {problem.strerror}") from None
