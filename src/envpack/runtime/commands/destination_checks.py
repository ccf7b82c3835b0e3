"""Checks of a destination before anything is written there: who can use it, and whether programs run there."""

from __future__ import annotations

import os
from typing import Sequence

from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.paths import is_folder, umask
from envpack.runtime.report import Reporter


def warn_umask(state: DeploymentState, reporter: Reporter) -> None:
    """Warn when root deploys with a umask under which no other user can use the environment.

    An upgrade is for those who could use the deployment before, under any umask.
    """
    mask = umask()
    if os.geteuid() == 0 and mask & 0o055 and state.current() is None:
        reporter.warn(
            f"the umask is {mask:03o}, so other users can't use {state.given}; to change that, remove it, set "
            "the umask to 022 and deploy again"
        )


def require_executable(state: DeploymentState, tests: Sequence[str], reporter: Reporter) -> None:
    """Warn when no program can be run at the destination (mount(8), "noexec"); raise when there are tests.

    Args:
        state: The deployment.
        tests: The test commands that are to be run there.
        reporter: Receives the warning.

    Raises:
        DestinationError: There are tests to run.
    """
    folder = next(folder for folder in state.path.parents if is_folder(folder, follow=True))
    if not os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return
    message = f"{folder} is on a filesystem that is mounted with 'noexec': programs can't be run there"
    if tests:
        raise DestinationError(
            f"{message}, nor the tests of the bundle",
            hint="Choose a destination on another filesystem. If other hosts run it from there, use --no-test.",
        )
    reporter.warn(message)
