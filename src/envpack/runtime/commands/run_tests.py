"""Tests of a bundle, run in the activated environment."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Mapping

from envpack.runtime.deployment.record import Record
from envpack.runtime.errors import DeploymentTestError
from envpack.runtime.fs.temporary import unnamed_file
from envpack.runtime.report import Reporter
from envpack.runtime.service.log import last_lines_in
from envpack.runtime.service.process_group import end_group
from envpack.runtime.transport.redact import without_secrets

_SHELL = ("/bin/sh", "-c", '. "$1/bin/activate" && eval "$2"', "sh")

_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL for processes that a test has left in the background."""


def run_bundle_tests(root: Path, commands: tuple[str, ...], reporter: Reporter, before: Record | None) -> None:
    """Run the test commands of a new deployment one after the other.

    Args:
        root: Directory of the deployment.
        commands: Shell commands, as the manifest lists them.
        reporter: Receives one step for each command.
        before: Record of the deployment that this one replaced, or None; the error names what is deployed again.

    Raises:
        DeploymentTestError: A command failed.
    """
    for command in commands:
        with reporter.step(f"Testing: {command}", unit="commands"):
            try:
                run_inside(root, command)
            except DeploymentTestError as error:
                outcome = (
                    "the deployment was removed"
                    if before is None
                    else f"{before.name} {before.version}, generation {before.generation}, is active again"
                )
                raise DeploymentTestError(
                    f"{error.message}; {outcome}", hint=error.hint, details=error.details
                ) from None


def run_inside(root: Path, command: str) -> None:
    """Run a shell command in the activated environment at ``root``.

    Python does not write byte-code meanwhile, so that a test leaves no trace in the deployment. The activation
    does not check the host: that was done before, or was switched off. Processes that the command has left in the
    background are ended.

    Raises:
        DeploymentTestError: The command failed; its details are the last 20 lines of the output.
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ENVPACK_SKIP_CHECK": "1"}
    with _output_file(root) as output:
        status = _run([*_SHELL, str(root), command], root, environment, output)
        details = last_lines_in(output.fileno()) if status != 0 else []
    if status != 0:
        raise DeploymentTestError(
            f"the bundle's test {command!r} failed with status {status}",
            hint="Deploy with --no-test to examine the deployment.",
            details=[*map(without_secrets, details)],
        )


def _output_file(root: Path) -> BinaryIO:
    """Create a file for output: a pipe would have to be read until every process that holds it has ended."""
    import tempfile  # takes 10 ms

    with suppress(OSError):
        return unnamed_file(Path(tempfile.gettempdir()))
    return unnamed_file(root)  # a host on which only the destination can be written to


def _run(argv: list[str], root: Path, environment: Mapping[str, str], output: BinaryIO) -> int:
    """Run a program to its end, end what it has left behind, and return its status."""
    process = subprocess.Popen(
        argv,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that its child processes can be ended with it
    )
    try:
        status = process.wait()
        end_group(process, _GRACE)
    except BaseException:
        end_group(process, 0)
        raise
    return status
