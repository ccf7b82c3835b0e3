"""The modules that commands for a host load: they start in a fraction of a second because these are few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.fake_hosts import bundle_of

SCRIPT = """\
import sys
from envpack.cli.app import main
from envpack.cli.console import Console

code = main(sys.argv[1:], Console.of_process())
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(code)
"""

FOR_BUILDS = {
    "build",
    "bundle.pack",
    "interop.write",
    "lock",
    "prefix.inventory",
    "prefix.needs",
    "release",
    "spec",
}
"""Modules and packages of envpack that read or make environments."""

HEAVY = {"asyncio", "conda_pack", "email", "lief", "rattler", "yaml"}


@pytest.mark.parametrize(
    "command", ["check {0}", "verify {0}", "deploy --no-check --no-test {0} {1}", "history {2}", "verify {2}"]
)
def test_commands_for_a_host_load_nothing_that_reads_environments(command: str, tmp_path: Path) -> None:
    bundle, deployed = tmp_path / "demo.tar.gz", tmp_path / "deployed"
    bundle_of(bundle, {}, complete=True)
    if "{2}" in command:
        run("deploy", "--no-check", "--no-test", str(bundle), str(deployed))
    loaded = run(*command.format(bundle, tmp_path / "new", deployed).split())
    assert "envpack.runtime.errors" in loaded
    assert not loaded & {*HEAVY, *(f"envpack.{name}" for name in FOR_BUILDS)}


IMPORTED = """\
import gc, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            print(gc.get_threshold()[0])

sys.meta_path.insert(0, Watch())
sys.argv = ["envpack", "--version"]
runpy.run_module("envpack", run_name="__main__")
"""


def test_the_garbage_collector_is_set_up_before_the_command_line_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 100_000


def run(*arguments: str) -> set[str]:
    """Run envpack and return the names of the modules that it loaded."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())
