"""The tests of a bundle that was just packed, run in a trial deployment before it is published."""

from __future__ import annotations

from pathlib import Path

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.bundle_source import BundleSource
from envpack.runtime.commands.check import Policy
from envpack.runtime.commands.run_tests import run_inside
from envpack.runtime.errors import DeploymentTestError
from envpack.runtime.parallel.resources import processors
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from envpack.runtime.tree.prefix import write_prefix


def run_tests_of(bundle: Path, folder: Path, reporter: Reporter, jobs: int | None = None) -> None:
    """Unpack a bundle into ``folder`` and run its tests there; nothing is done for a bundle without tests.

    The tests find what packing changed, too: files left out, and the prefix of another path. The folder is not a
    deployment that commands know.

    Args:
        bundle: The bundle.
        folder: A folder that does not exist, and is removed by the caller.
        reporter: Shows the progress.
        jobs: Processors to use; None for those this process may use.

    Raises:
        DeploymentTestError: A test failed.
    """
    with open_bundle(bundle, FAST) as opened:
        tests = opened.manifest.test
        if not tests:
            return
        folder.mkdir()
        source = BundleSource(opened, Policy(check=False), reporter, None)
        source.write(folder, folder, reporter, jobs or processors())
        write_prefix(folder, str(folder))
    for command in tests:
        with reporter.step(f"Testing: {command}", unit="commands"):
            _run(folder, command)


def _run(folder: Path, command: str) -> None:
    try:
        run_inside(folder, command)
    except DeploymentTestError as error:
        raise DeploymentTestError(
            f"{error.message}; no bundle was written",
            hint="Correct the environment or the test, or use --no-test if the tests need another machine, "
            "for example one with a GPU.",
            details=error.details,
        ) from None
