"""Run a bundle's tests in the activated environment."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from envpack.runtime.deployment.record import Record
from envpack.runtime.errors import DeploymentTestError
from envpack.runtime.report import Reporter


def run_bundle_tests(
    root: Path, commands: tuple[str, ...], reporter: Reporter, before: Record | None
) -> tuple[str, ...]:
    for command in commands:
        with reporter.step(f"Testing: {command}", unit="commands"):
            try:
                run_inside(root, command)
            except DeploymentTestError as error:
                now = (
                    "the deployment was taken away"
                    if before is None
                    else f"{before.name} {before.version}, generation {before.generation}, is in its place again"
                )
                raise DeploymentTestError(
                    f"{error.message}; {now}", hint=error.hint, details=error.details
                ) from None
    return commands


def run_inside(root: Path, command: str) -> None:
    """Runs a shell command in the activated environment; raises DeploymentTestError with the end of its output.

    Nothing is byte-compiled meanwhile, so that a test leaves no trace in the deployment; the host has been checked
    already, or was not to be.
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
        start_new_session=True,  # so that an interrupt ends what the command has started, too
    )
    try:
        said, _ = process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        output = said.decode("utf-8", "replace").splitlines()
        raise DeploymentTestError(
            f"the bundle's test {command!r} failed with status {process.returncode}",
            hint="Deploy with --no-test to look at it in place.",
            details=output[-20:],
        )
