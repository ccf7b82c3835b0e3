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
from envpack.runtime.report import print_wrapped

_SHELL_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")

# the output of activation scripts goes to stderr; cat shows the environment that they leave to a program
_ACTIVATE = '. "$1/bin/activate" >&2 || exit 1; command -p cat /proc/self/environ'
_CHECK = '[ ! -f "$1/.envpack/check.sh" ] || . "$1/.envpack/check.sh"'
_SKIP = b"ENVPACK_SKIP_CHECK"


def refusal(root: Path) -> list[str]:
    """Return why an activation of a deployment would refuse this host, as lines; [] when it would not.

    Warnings of the check are written to stderr.
    """
    command = ["/bin/sh", "-c", _CHECK, "sh", str(root)]
    done = subprocess.run(command, env=own_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    if done.returncode != 0:
        return lines or ["the check of this host failed"]
    for line in lines:
        print_wrapped(line)
    return []


def activated(root: Path) -> dict[bytes, bytes]:
    """Return the environment variables that ``bin/activate`` of a deployment leaves to programs.

    The scripts of packages are run. The host is not checked again: `refusal` does that.

    Args:
        root: The deployment.

    Raises:
        StartError: The activation failed; it has written the reason to stderr.
    """
    sys.stderr.flush()
    command, own = ["/bin/sh", "-c", _ACTIVATE, "sh", str(root)], own_environment()
    done = subprocess.run(command, env={**own, _SKIP: b"1"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if done.returncode != 0 or not done.stdout:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise StartError(
            f"{root} could not be activated ({ended})",
            hint="The reason is above. Activation scripts are in etc/conda/activate.d.",
        )
    others = {name: value for name, value in own.items() if not _SHELL_NAME.fullmatch(name)}
    found = {**others, **_parsed(done.stdout)}  # dash drops them, such as discovery.type
    found.pop(_SKIP, None)
    return {**found, _SKIP: own[_SKIP]} if _SKIP in own else found


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
