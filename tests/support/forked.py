"""`envpack` in a process forked from one that has imported it: all of a command but the start of Python.

For tests of what commands do and print. Tests of the process itself (signals, terminals, limits, preloaded
libraries, several at once) start one.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

DESCRIPTORS = {"in": os.O_RDONLY, "out": os.O_WRONLY, "err": os.O_WRONLY}


def envpack(
    *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command without input, as `subprocess.run` does with ``capture_output`` and ``text``."""
    umask = os.umask(0)
    os.umask(umask)
    with tempfile.TemporaryDirectory() as folder:
        files = {"in": os.devnull, "out": f"{folder}/out", "err": f"{folder}/err"}
        for name in ("out", "err"):
            Path(files[name]).touch()
        job = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "umask": umask,
            "files": files,
        }
        code = int(_answer(json.dumps(job)))
        out, err = (Path(files[name]).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(job["words"], code, out, err)


_ONE = threading.Lock()


def _answer(job: str) -> str:
    with _ONE:  # the server runs one command after another
        return _answer_of(_server(), job)


def _answer_of(server: subprocess.Popen[str], job: str) -> str:
    assert server.stdin is not None and server.stdout is not None
    try:
        server.stdin.write(job + "\n")
        server.stdin.flush()
        return server.stdout.readline()
    except BaseException:  # a test that takes too long: its answer is not the next one's
        server.kill()
        _server.cache_clear()
        raise


@cache
def _server() -> subprocess.Popen[str]:
    command = [sys.executable, __file__]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_stop, server)
    return server


_RUNTIME = """
import importlib, json, os, sys
sys.path[:0] = sys.argv[2:]
from envpack.runtime.__main__ import main
for name in json.loads(sys.argv[1]):
    imported = importlib.import_module(name)
    assert not sys.argv[2:] or not name.startswith("envpack") or imported.__file__.startswith(sys.argv[2]), name
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            if job["user"]:
                os.setgroups([])
                os.setgid(job["user"])
                os.setuid(job["user"])
            os.chdir(job["cwd"])
            os.environ.clear()
            os.environ.update(job["env"])
            code = main(job["words"])
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitpid(child, 0)[1], flush=True)
"""
RUNTIME_OF_DEPLOYMENTS = tuple(
    f"envpack.runtime.{name}"
    for name in (
        "commands.check",
        "commands.deploy",
        "commands.metrics",
        "commands.move",
        "commands.remove",
        "commands.rollback",
        "commands.verify",
        "deployment.history",
        "host.detect.gather",
        "transport.open",
        "tree.rewrite_prefix",
    )
)


class ForkedRuntime:
    """The runtime of bundles in processes forked from one of ``python`` that has imported it.

    Args:
        python: A Python of any version that the runtime supports.
        source: The zip file of the runtime; None: the package as it is installed.
        modules: Modules to import before the first command.
        environment: The variables of the process that is forked, which loads libraries by them.
    """

    def __init__(
        self,
        python: str,
        source: Path | None,
        modules: Sequence[str] = RUNTIME_OF_DEPLOYMENTS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [python, *(["-I", "-S"] if source else []), "-c", _RUNTIME, json.dumps(modules)]
        self._server = subprocess.Popen(
            [*command, *([str(source)] if source else [])],
            env=None if environment is None else dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, user: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as another user if one is given."""
        assert self._server.stdin is not None and self._server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = {name: f"{folder}/{name}" for name in ("out", "err")}
            job = {
                "words": [str(word) for word in words],
                "cwd": str(cwd or Path.cwd()),
                "env": dict(os.environ if env is None else env),
                "user": user,
                **files,
            }
            try:
                self._server.stdin.write(json.dumps(job) + "\n")
                self._server.stdin.flush()
                code = os.waitstatus_to_exitcode(int(self._server.stdout.readline()))
            except BaseException:  # a test that takes too long: its answer is not the next one's
                self._server.kill()
                raise
            out, err = (Path(file).read_text(encoding="utf-8") for file in files.values())
        return subprocess.CompletedProcess(job["words"], code, out, err)

    def end(self) -> None:
        _stop(self._server)


def _stop(server: subprocess.Popen[str]) -> None:
    with suppress(OSError):
        server.communicate()


def _serve() -> None:
    from envpack.bundle.zipapp.runtime_zip import runtime_files
    from envpack.cli.app import COMMANDS

    for name in COMMANDS:
        importlib.import_module(f"envpack.cli.commands.{name}")
    runtime_files(None)  # which every pack without a cache would make anew
    gc.freeze()  # a collection in a child would copy all that the server has
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _child(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _child(job: dict[str, Any]) -> NoReturn:
    import envpack.__main__

    os.umask(job["umask"])
    for number, (name, flags) in enumerate(DESCRIPTORS.items()):
        opened = os.open(job["files"][name], flags)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    time.tzset()
    sys.argv = [str(envpack.__main__.__file__), *job["words"]]
    code: Any = 1
    try:
        envpack.__main__.main()
        code = 0
    except SystemExit as done:
        code = done.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
