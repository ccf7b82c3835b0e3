"""The environment variables of an activated deployment, for a process that becomes another program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from envpack.runtime.errors import StartError
from envpack.runtime.fs.io import read_file

_SHELL_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")

# the output of activation scripts goes to stderr; cat shows the environment that they leave to a program
_ACTIVATE = '. "$1/bin/activate" >&2 || exit 1; command -p cat /proc/self/environ'


def activated(root: Path) -> dict[bytes, bytes]:
    """Return the environment variables that ``bin/activate`` of a deployment leaves to programs.

    The activation checks the host, as it does in a shell, and runs the scripts of packages.

    Args:
        root: The deployment.

    Raises:
        StartError: The activation failed; it has written the reason to stderr.
    """
    sys.stderr.flush()
    command, own = ["/bin/sh", "-c", _ACTIVATE, "sh", str(root)], own_environment()
    done = subprocess.run(command, env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if done.returncode != 0 or not done.stdout:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise StartError(
            f"{root} could not be activated ({ended})",
            hint="The reason is above: a requirement on the host, or a script in etc/conda/activate.d.",
        )
    others = {name: value for name, value in own.items() if not _SHELL_NAME.fullmatch(name)}
    return {**others, **_parsed(done.stdout)}  # dash drops them, such as discovery.type


def own_environment() -> dict[bytes, bytes]:
    """Return the environment that this process was started with.

    Python may have added LC_CTYPE to it (PEP 538), which the programs that it starts are not to get.
    """
    found = dict(os.environb)
    with suppress(OSError):
        if b"LC_CTYPE" not in _parsed(read_file("/proc/self/environ")):
            found.pop(b"LC_CTYPE", None)
    return found


def _parsed(block: bytes) -> dict[bytes, bytes]:
    pairs = (item.partition(b"=") for item in block.split(b"\0"))
    return {name: value for name, equals, value in pairs if equals}


def restore_signals() -> None:
    """Undo what Python has changed for itself and a program would inherit (signal, SIGPIPE)."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
