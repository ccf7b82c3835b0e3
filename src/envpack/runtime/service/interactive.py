"""The user's interactive shell in an activated deployment."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Mapping


def shell_of(environ: Mapping[str, str]) -> str:
    """Return the user's shell: ``SHELL`` (POSIX, XBD 8.3), else /bin/sh."""
    return environ.get("SHELL") or "/bin/sh"


def activates_itself(shell: str) -> bool:
    """Return whether `interactive` gives this shell the activation script to run after the user's own settings.

    Others inherit the variables of an activation, before their settings are read.
    """
    return os.path.basename(shell) in ("bash", "fish")


def interactive(shell: str, root: Path) -> list[str]:
    """Return the command line of an interactive shell for the deployment at ``root``.

    For bash the commands are in a pipe that the shell reads; it stays open until then.
    """
    name, quoted = os.path.basename(shell), shlex.quote(str(root))
    if name == "fish":
        path = str(root).replace("\\", "\\\\").replace("'", "\\'")
        return [shell, "-i", "-C", f"source '{path}/bin/activate.fish'"]
    if name != "bash":
        return [shell, "-i"]
    reading, writing = os.pipe()
    lines = f"[ ! -f ~/.bashrc ] || . ~/.bashrc\nexec {reading}<&-\n. {quoted}/bin/activate\n"
    os.write(writing, os.fsencode(lines))
    os.close(writing)
    os.set_inheritable(reading, True)
    return [shell, "--rcfile", f"/proc/self/fd/{reading}", "-i"]
