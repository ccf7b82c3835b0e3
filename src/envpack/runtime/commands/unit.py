"""The systemd unit of a command of a deployment."""

from __future__ import annotations

import os
import pwd
import re
import sys
import zipfile
from pathlib import Path

from envpack.runtime.activation import launcher, launcher_path
from envpack.runtime.commands.run import STDOUT, command_of, manifest_of, require_port
from envpack.runtime.errors import StartError, UsageError
from envpack.runtime.format.layout import RUNTIME_PATH
from envpack.runtime.format.services import COMMAND_NAME, Service
from envpack.runtime.fs.io import read_file
from envpack.runtime.report import Reporter
from envpack.runtime.service.unit import Unit

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def unit(
    destination: Path,
    name: str,
    *,
    for_user: bool = False,
    account: str | None = None,
    directory: Path = Path(),
    env_file: Path | None = None,
    port: int | None = None,
    reporter: Reporter,
) -> str:
    """Return the text of a systemd unit that runs a command; its output goes to the journal.

    Args:
        destination: The deployment; the unit has this path, also if it is a link.
        name: The name of the command.
        for_user: Whether the unit is for a user's own systemd.
        account: The user that a system service runs as (default: this one).
        directory: Its working directory.
        env_file: A file with further variables, as systemd.exec(5) describes it.
        port: The port of the command instead of the spec's.
        reporter: Receives a warning when the service would run as root.

    Raises:
        StartError: There is no such deployment, or it has no such command.
        UsageError: A path or a name can't be in a unit.
    """
    root = Path(os.path.abspath(destination))
    manifest = manifest_of(root)
    command_of(manifest, name)
    require_port(port)
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise UsageError(f"{account!r} is not the name of a user")
    account = account or ("" if os.geteuid() == 0 else _own_name())
    if account in ("", "root") and not for_user:
        reporter.warn("the service would run as root; choose another user with --run-as USER")
    return Unit(
        description=f"{manifest.name}: {name}",
        command=[*_starter(root, name), "--log", STDOUT, *(("--port", str(port)) if port is not None else ())],
        directory=os.path.abspath(directory),
        service=manifest.services.get(name, Service()),
        for_user=for_user,
        account=account,
        env_file="" if env_file is None else os.path.abspath(env_file),
    ).text


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _has_run(runtime: Path) -> bool:
    try:
        with zipfile.ZipFile(runtime) as archive:
            return "envpack/runtime/commands/run.py" in archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _starter(root: Path, name: str) -> list[str]:
    """Return the command that starts it: the script of the bundle, else the runtime itself."""
    script = root / launcher_path(name)
    if COMMAND_NAME.fullmatch(name):
        data = launcher(name)
        try:
            if read_file(script, len(data) + 1) == data:
                return [str(script)]
        except OSError:
            pass
    if not _has_run(root / RUNTIME_PATH):
        raise StartError(
            f"{root} is from a bundle of an earlier version of envpack, which can't start commands",
            hint="Pack and deploy it again.",
        )
    return [os.path.abspath(sys.executable), "-I", "-S", str(root / RUNTIME_PATH), "run", str(root), name]
