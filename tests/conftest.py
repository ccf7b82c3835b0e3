"""Fixtures of all tests: the local channel of ``scripts/make_channel.py``, which is used again by later runs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.lock.uvtool import uv_environment
from support.compilers import compiler
from support.skip_summary import last_line

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPTS = REPOSITORY / "scripts"
CHANNEL_REQUIREMENTS = ("click", "numpy", "pip", "requests", "rich")

# nohup and some CI systems ignore these, and what the tests interrupt would inherit it
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)
os.umask(0o022)  # modes of deployed files follow it; tests of other umasks set them
# tests call uv themselves, too
os.environ.update({name: value for name, value in uv_environment().items() if name == "SSL_CERT_FILE"})


@pytest.fixture(scope="session", autouse=True)
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of deployments that tests write to, instead of the one of who runs them."""
    folder = tmp_path_factory.mktemp("state") / "deployments"
    os.environ["ENVPACK_STATE"] = str(folder)
    os.environ["CONDA_REGISTER_ENVS"] = "false"
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_cache() -> None:
    """Every test packs anew, unless it asks for a cache."""
    os.environ["ENVPACK_CACHE"] = ""


@pytest.fixture(scope="session")
def channel() -> Path:
    """The folder of a channel with this Python, the packages above with what they need, and the relocation
    samples. All workers share it; it is made anew when the maker, the list or the compiler changes."""
    key = hashlib.sha256(repr((CHANNEL_REQUIREMENTS, sys.version, sys.base_prefix, compiler())).encode())
    sources = sorted(path for path in SCRIPTS.rglob("*") if path.suffix in (".py", ".c", ".in"))
    for source in (*sources, REPOSITORY / "src/envpack/build/compile_worker.py"):
        key.update(source.read_bytes())
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    folder = build / f"test-channel-{key.hexdigest()[:12]}"
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or not folder.exists():
            command = [sys.executable, str(SCRIPTS / "make_channel.py"), str(folder), *CHANNEL_REQUIREMENTS]
            command.append("--with-relocation-samples")
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode != 0:
                pytest.fail(f"the test channel can't be made:\n{made.stderr}", pytrace=False)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def channel_url(channel: Path) -> str:
    """The channel as conda clients name it."""
    return channel.as_uri()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say last which kinds of tests were left out."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        reports = reporter.stats.get("skipped", ())
        line = last_line(
            str(report.longrepr[-1]) for report in reports if isinstance(report.longrepr, (tuple, list))
        )
        if line:
            reporter.write_line(line)
