"""rattler's installation of conda packages in a process of its own.

rattler ends the whole process where one of its threads panics, which packages can cause. Ended with it, the build
could neither say why nor clean up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from envpack.lock.condarc import home_of
from envpack.runtime.errors import BuildError
from envpack.runtime.fs.temporary import new_folder
from envpack.runtime.transport.redact import without_secrets

if TYPE_CHECKING:
    from rattler import RepoDataRecord

Event = Sequence[Any]

_REASON = 8
"""Lines of a panic's message, without its backtrace."""

_SHOWN = 80
"""Characters of a wrong path that a message shows."""


@dataclass(frozen=True)
class Request:
    """An installation.

    Attributes:
        records: The packages.
        prefix: The prefix to make.
        cache: The folder for downloaded packages.
        platform: The prefix's conda subdir.
        requested: The MatchSpecs of the spec, for ``conda-meta``.
    """

    records: Sequence[RepoDataRecord]
    prefix: Path
    cache: Path
    platform: str
    requested: Sequence[str] = ()


def default_cache() -> Path:
    """Return rattler's own package cache (rattler_cache, ``default_cache_dir``; dirs, ``cache_dir``)."""
    if stated := os.environ.get("RATTLER_CACHE_DIR"):
        return Path(stated).absolute() / "pkgs"
    user = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(user) if user.startswith("/") else home_of(os.environ) / ".cache"
    return folder / "rattler" / "cache" / "pkgs"


class InstallError(Exception):
    """A failure that rattler reports; the text is its message."""


def install(request: Request, on_event: Callable[[Event], None]) -> None:
    """Install the packages of a request. An interrupt ends the process.

    Args:
        request: The packages and the prefix.
        on_event: Called with each event of ``install_worker.Events``.

    Raises:
        InstallError: rattler reports a failure.
        BuildError: A package has a wrong path, or the process ended without a result.
    """
    linking: set[str] = set()
    last: Event = ("",)
    request.prefix.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(request.prefix.parent / "install") as scratch, (scratch / "log").open("wb+") as log:
        (scratch / "request").write_bytes(_as_json(request, scratch))
        with _start(scratch, log) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    last = json.loads(line)
                    if last[0] == "linking":
                        linking.add(last[1])
                    elif last[0] == "linked":
                        linking.discard(last[1])
                    on_event(last)
            except BaseException:
                process.kill()
                raise
        log.seek(0)
        messages = log.read().decode(errors="replace").splitlines()
    if last[0] == "path":
        path = last[2] if len(last[2]) <= _SHOWN else f"{last[2][:_SHOWN]}..."
        raise BuildError(
            f"the package {last[1]} has a file with a path that is not allowed: {path!r}",
            hint="Report it to the owner of the channel, or use another version of the package.",
        )
    if last[0] == "error" and "panicked" not in last[1]:
        raise InstallError(last[1])
    if last[0] != "done":
        raise _ended(process.returncode, sorted(linking), messages)


def _start(scratch: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    script = resources.files("envpack.build").joinpath("install_worker.py").read_text(encoding="utf-8")
    modules = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,  # closed when this process ends
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": modules},
        start_new_session=True,  # an interrupt of the terminal reaches only this process, which ends the other
    )


def _as_json(request: Request, scratch: Path) -> bytes:
    """Return the request, with the records in files: py-rattler gives their JSON in no other way."""
    from rattler import PrefixRecord
    from rattler.prefix import PrefixPaths

    paths = []
    for number, record in enumerate(request.records):
        paths.append(str(scratch / f"{number}.json"))
        PrefixRecord(record, PrefixPaths()).write_to_path(scratch / f"{number}.json", False)
    values = {
        "records": paths,
        "prefix": str(request.prefix),
        "cache": str(request.cache),
        "platform": request.platform,
        "requested": list(request.requested),
    }
    return json.dumps(values).encode()


def _ended(status: int, linking: Sequence[str], messages: Iterable[str]) -> BuildError:
    """Return the end of the process without a result as an error.

    Args:
        status: Its exit status, negative for a signal.
        linking: The names of the packages that it was linking.
        messages: What it wrote to stderr, with the message of a panic.
    """
    how = f" ({signal.Signals(-status).name})" if status < 0 else f" (exit {status})" if status else ""
    where = f" while it linked {', '.join(linking[:3])}" if linking else ""
    where += f" and {len(linking) - 3} more" if len(linking) > 3 else ""
    lines = takewhile(lambda line: not line.startswith("stack backtrace:"), messages)
    return BuildError(
        f"rattler, which installs the conda packages, failed unexpectedly{where}{how}",
        hint="A damaged package may be the reason. Use another version of it, or install with --backend conda.",
        details=[without_secrets(line) for line in islice(filter(None, lines), _REASON)],
    )
