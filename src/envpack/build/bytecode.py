"""Byte-compilation of a prefix so that the same sources give the same bytes in every build."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from itertools import repeat
from pathlib import Path

from envpack.runtime.errors import BuildError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.report import Reporter, Step
from envpack.runtime.transport.redact import without_secrets

SOURCE_MTIME = 315532800
"""The source time that every pyc made here records, in seconds since 1970 (1980-01-01T00:00:00Z). A bundle stores
this time for every file, so that a deployment's byte code is valid. In the build prefix itself it is stale,
which does no harm: that prefix is read and deleted. Its files are hard links into the package caches, so their
times must not be changed.
"""

_PYC = re.compile(r"^(.*)/__pycache__/([^/]+?)\.([^/.]+)(?:\.opt-\d)?\.pyc$")


@dataclass(frozen=True)
class CompileResult:
    """The result of `compile_prefix`, in paths relative to the prefix.

    Attributes:
        compiled: Sources that were compiled.
        valid: Sources with published byte code that is still valid.
        invalid: Sources that are not valid for this Python (templates, tests of parsers, Python 2), which are
            skipped as with ``compileall -q``.
    """

    compiled: tuple[str, ...]
    valid: tuple[str, ...]
    invalid: tuple[str, ...]


def compile_prefix(
    prefix: Path, python: Path, *, reporter: Reporter | None = None, workers: int | None = None
) -> CompileResult:
    """Byte-compile the standard library and site-packages of ``python`` in ``prefix``.

    Byte code that packages published stays while it matches its source. Every other file under ``__pycache__``
    that has the name of a compiled file is replaced by a new file.

    Args:
        prefix: The prefix.
        python: Its interpreter, PREFIX/bin/python.
        reporter: Shows the progress.
        workers: The number of worker processes, by default the usable cores; changes only the speed.

    Raises:
        BuildError: The environment's Python does not run, a worker stopped, or byte code can't be written.
    """
    reporter = reporter or Reporter()
    sources = sorted(_sources(prefix, _library(prefix, python)))
    published = published_bytecode(prefix)
    valid = [name for name in sources if _has_valid_bytecode(prefix, name, published)]
    stale = sorted(set(sources) - set(valid))
    with reporter.step("Byte-compiling", total=len(stale), unit="files") as step:
        compiled, invalid = compile_sources(prefix, python, stale, step=step, workers=workers)
        step.detail = f"{len(compiled)} files"
    return CompileResult(compiled, tuple(valid), invalid)


def compile_sources(
    folder: Path,
    python: Path,
    sources: Sequence[str],
    *,
    mtime: int = SOURCE_MTIME,
    step: Step | None = None,
    workers: int | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Byte-compile files, and return the paths of those that were compiled and of those that are invalid.

    Args:
        folder: The folder that paths are relative to, also in tracebacks.
        python: The interpreter.
        sources: The paths of the files.
        mtime: The time of the sources that byte-code records, in seconds since 1970.
        step: Shows the progress.
        workers: The number of worker processes, by default the usable cores; changes only the speed.

    Raises:
        BuildError: A worker stopped, or byte code can't be written.
    """
    count = workers or len(os.sched_getaffinity(0))
    shares = [share for start in range(count) if (share := sources[start::count])]
    results = _compile_all(folder, python, shares, mtime, step or Step())
    if results["failed"]:
        raise BuildError(
            f"byte-code of {len(results['failed'])} files can't be written",
            hint="Check the free space and the permissions of the build directory.",
            details=sorted(results["failed"])[:20],
        )
    return tuple(sorted(results["ok"])), tuple(sorted(results["bad"]))


def _compile_all(
    folder: Path, python: Path, shares: Sequence[Sequence[str]], mtime: int, step: Step
) -> dict[str, list[str]]:
    """Compile each share of the sources in a process of its own; return the sources by result: ok, bad, failed."""
    results: dict[str, list[str]] = {"ok": [], "bad": [], "failed": []}
    lock = threading.Lock()

    def collect(result: str, name: str) -> None:
        with lock:
            results[result].append(name)
            step.advance()

    processes = [_start_worker(folder, python, mtime) for _ in shares]
    try:
        with ThreadPoolExecutor(max(1, len(shares))) as pool:
            try:
                for _ in pool.map(_compile_share, processes, shares, repeat(collect)):
                    pass
            except BaseException:
                _stop(processes)  # before the pool waits for its threads
                raise
    finally:
        _stop(processes)
    return results


def _library(prefix: Path, python: Path) -> str:
    """Return the folder of the standard library, relative to the prefix: lib/python3.11."""
    script = "import sys; sys.stdout.write('lib/python%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        details = getattr(error, "stderr", None) or str(error)
        raise BuildError(
            f"the environment's Python does not run: {python.relative_to(prefix)}",
            hint="Check that the environment is for this platform.",
            details=without_secrets(details).splitlines()[-10:],
        ) from None
    return done.stdout


def _sources(prefix: Path, library: str) -> Iterator[str]:
    for folder, folders, files in os.walk(prefix / library):
        folders[:] = [name for name in folders if name != "__pycache__"]
        base = os.path.relpath(folder, prefix)
        for file in files:
            if file.endswith(".py") and not os.path.islink(os.path.join(folder, file)):  # noqa: PTH114, PTH118
                yield f"{base}/{file}"


def published_bytecode(prefix: Path) -> dict[str, list[str]]:
    """Return the byte-code files that conda packages or wheels list as theirs, by the source they belong to."""
    found: dict[str, list[str]] = {}
    for name in _recorded_files(prefix):
        source = source_of_bytecode(name)
        if source:
            found.setdefault(source, []).append(name)
    return found


def source_of_bytecode(path: str) -> str:
    """Return the source of a byte-code file in ``__pycache__``; "" for every other file."""
    match = _PYC.match(path)
    return f"{match[1]}/{match[2]}.py" if match else ""


def _recorded_files(prefix: Path) -> Iterable[str]:
    for record in sorted((prefix / "conda-meta").glob("*.json")):
        yield from json_value(read_file(record)).get("files", ())
    for record in sorted(prefix.glob("lib/python*/site-packages/*.dist-info/RECORD")):
        base = record.parent.parent.relative_to(prefix).as_posix()
        for line in read_file(record).decode("utf-8", "surrogateescape").splitlines():
            if ".pyc," in line:
                yield f"{base}/{line.split(',', 1)[0]}"


def _has_valid_bytecode(prefix: Path, source: str, published: dict[str, list[str]]) -> bool:
    """Return whether ``source`` has published byte code that Python accepts once the source has its right time.

    PEP 552: bytes 4-8 are flags (bit 0: checked by hash, not by time), 12-16 the size of the source.
    """
    size = (prefix / source).stat().st_size
    for name in published.get(source, ()):
        if ".opt-" in name:
            continue
        try:
            header = read_file(prefix / name, 16)
        except OSError:
            continue
        if len(header) == 16 and (header[4] & 1 or int.from_bytes(header[12:16], "little") == size & 0xFFFFFFFF):
            return True
    return False


def _start_worker(folder: Path, python: Path, mtime: int) -> subprocess.Popen[bytes]:
    script = resources.files("envpack.build").joinpath("compile_worker.py").read_text(encoding="utf-8")
    # not -I: it would ignore PYTHONHASHSEED, which decides the order of sets in byte code before Python 3.11
    command = [str(python), "-s", "-S", "-B", "-W", "ignore", "-c", script, str(folder), str(mtime)]
    env = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "PATH": os.defpath}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=folder, start_new_session=True
    )


def _stop(workers: Iterable[subprocess.Popen[bytes]]) -> None:
    """Kill workers with the processes they started, and return when none of them can write any more."""
    for worker in workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
    for worker in workers:
        worker.wait()
        if worker.stdout is not None and not worker.stdout.closed:
            worker.stdout.read()  # its end is closed by the last process
        for stream in (worker.stdin, worker.stdout, worker.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _compile_share(
    worker: subprocess.Popen[bytes], names: Sequence[str], collect: Callable[[str, str], None]
) -> None:
    """Send one worker process its files, and pass on its result for each."""
    assert worker.stdin is not None and worker.stdout is not None and worker.stderr is not None
    with suppress(BrokenPipeError):  # its stderr has the reason
        worker.stdin.write("\n".join(names).encode("utf-8", "surrogateescape"))
        worker.stdin.close()
    count = 0
    for line in worker.stdout:
        result, _, name = line.decode("utf-8", "surrogateescape").rstrip("\n").partition(" ")
        count += 1
        collect(result, name)
    if count != len(names):
        errors = worker.stderr.read().decode(errors="replace")
        raise BuildError(
            f"byte-compiling stopped after {count} of {len(names)} files", details=errors.splitlines()[-20:]
        )
