"""A bundle's test that leaves processes behind: it is not waited for them, and they are ended."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from envpack.runtime.commands.run_tests import run_inside
from envpack.runtime.errors import DeploymentTestError
from support.sample_deployments import deploy_version


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(deploy_version(tmp_path, "1", tmp_path / "x").destination)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail where the block would otherwise go on for ever."""

    def fail(number: int, frame: object) -> None:
        raise TimeoutError(f"it takes more than {seconds} s")

    former = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def is_running(pid: int) -> bool:
    """Return whether a process exists and has not ended; one that nobody waits for has."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


def ends(pid: int) -> bool:
    for _ in range(200):
        if not is_running(pid):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
@pytest.mark.parametrize("before", ["", "trap '' TERM; "])
def test_what_a_test_leaves_in_the_background_is_ended(root: Path, tmp_path: Path, before: str) -> None:
    with at_most(60):
        run_inside(root, f"{before}sleep 1000 & echo $! >'{tmp_path}/pid'")
    assert ends(int((tmp_path / "pid").read_text()))


def test_a_failure_is_reported_with_the_last_lines_whatever_goes_on(root: Path) -> None:
    with at_most(60), pytest.raises(DeploymentTestError, match="failed with status 3") as caught:
        run_inside(root, "sleep 1000 & i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo $i; done; exit 3")
    assert caught.value.details == [str(number) for number in range(11, 31)]


def test_a_host_without_a_temporary_folder_runs_tests(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    before = sorted(root.rglob("*"))
    with pytest.raises(DeploymentTestError) as caught:
        run_inside(root, "echo said; false")
    assert caught.value.details == ["said"]
    assert sorted(root.rglob("*")) == before
