"""Tests of a bundle, run in the activated environment."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from envpack.runtime.deployment.record import Record
from envpack.runtime.errors import DeploymentTestError
from envpack.runtime.report import Reporter


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
    does not check the host: that was done before, or was switched off.

    Raises:
        DeploymentTestError: The command failed; its details are the last 20 lines of the output.
    """
    script = '. "$1/bin/activate" && eval "$2"'
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ENVPACK_SKIP_CHECK": "1"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", script, "sh", str(root), command],
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that an interrupt ends the command's child processes, too
    )
    try:
        output, _ = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        raise DeploymentTestError(
            f"the bundle's test {command!r} failed with status {process.returncode}",
            hint="Deploy with --no-test to examine the deployment.",
            details=output.decode("utf-8", "replace").splitlines()[-20:],
        )
