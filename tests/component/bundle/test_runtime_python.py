"""The runtime in a bundle, run by a Python that can't run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_zip

_WITHOUT = """
import sys, runpy
class Without:
    def find_spec(self, name, *rest):
        if name == {name!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.modules.pop({name!r}, None)
sys.meta_path.insert(0, Without())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_OLD = """
import sys, runpy
sys.version_info = (3, 6, 1)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    runtime = folder / "runtime.pyz"
    runtime.write_bytes(runtime_zip())
    command = [sys.executable, "-I", "-S", "-c", code, str(runtime), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["json", "argparse", "pathlib"])
def test_a_python_without_a_module_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    """Debian's python3-minimal has no json."""
    done = run(_WITHOUT.format(name=name), tmp_path, "facts")
    assert (done.returncode, done.stdout) == (9, "")
    assert f"its standard library is not complete: it has no module {name}" in done.stderr
    assert "hint" in done.stderr and "Traceback" not in done.stderr


def test_a_python_that_is_too_old_is_refused_with_the_reason(tmp_path: Path) -> None:
    done = run(_OLD, tmp_path, "facts")
    assert (done.returncode, done.stdout) == (9, "")
    assert "it is Python 3.6" in done.stderr and "Traceback" not in done.stderr
