"""The registry of the deployments on this host: one small file for each, which contains only the path.

Everything else is read from the deployment itself, so a path that no longer exists is the only possible error
here. The files are in the user's state folder; those of root are in a folder for the whole host.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Iterator, Mapping

from envpack.runtime.deployment.record import read_record
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.io import read_file, write_all
from envpack.runtime.fs.paths import is_folder, make_folders
from envpack.runtime.fs.temporary import replace_file
from envpack.runtime.report import Reporter

FOR_THE_HOST = Path("/var/lib/envpack/deployments")
"""The folder in which root's deployments are registered: state of a program (FHS 3.0, 5.8)."""


_NO = frozenset({"0", "false", "no", "off"})
"""Values of ``CONDA_REGISTER_ENVS`` with which conda lists no environments (conda/common/configuration.py)."""


def registry(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of this user's registry, or None for a user without a home.

    The folder is ``ENVPACK_STATE``, else `FOR_THE_HOST` for root, else one in ``XDG_STATE_HOME`` (XDG Base
    Directory Specification 0.8).
    """
    if environ.get("ENVPACK_STATE"):
        return Path(environ["ENVPACK_STATE"]).absolute()
    if os.geteuid() == 0:
        return FOR_THE_HOST
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if os.path.isabs(state):
        return Path(state, "envpack", "deployments")
    return Path(home, ".local", "state", "envpack", "deployments") if os.path.isabs(home) else None


def register(destination: Path, reporter: Reporter) -> None:
    """Add a deployment to the registry, and to conda's list of environments; warn when that can't be written."""
    _register_with_conda(destination)
    folder = registry()
    if folder is None:
        return
    entry = _entry(folder, destination)
    data = os.fsencode(destination) + b"\n"
    try:
        if not _holds(entry, data):
            make_folders(folder, 0o755)
            replace_file(entry, data, 0o644)
    except (OSError, DestinationError) as problem:
        why = problem.message if isinstance(problem, DestinationError) else f"{folder}: {problem.strerror}"
        reporter.warn(f"'envpack list' will not show {destination}: {why}")


def unregister(destination: Path) -> None:
    """Remove a deployment from the registry, and from conda's list of environments.

    A file that can't be removed does no harm: `registered` leaves out paths without a deployment.
    """
    folder = registry()
    if folder is not None:
        with suppress(OSError):
            os.unlink(_entry(folder, destination))
    _unregister_with_conda(destination)


def registered() -> list[Path]:
    """Return the registered destinations that still have a deployment, sorted; those of root are included.

    Destinations that certainly have none any more are removed from the registry. With ``ENVPACK_STATE`` only that
    folder is read. Files that `register` has not written are neither used nor removed.
    """
    found = set()
    for entry, path in _registered():
        with suppress(OSError):
            if is_deployment(path):
                found.add(path)
            elif _is_surely_gone(path):
                os.unlink(entry)
    return sorted(found)


def every_registered() -> list[Path]:
    """Return the same destinations, and those that have no deployment or can't be read; remove nothing.

    For who watches the deployments: one on a disk that is not mounted at the moment is to be missed, and is to be
    found again.
    """
    return sorted({path for _, path in _registered()})


def _registered() -> Iterator[tuple[Path, Path]]:
    """Yield the file and the destination of each entry."""
    folders = {registry()} if os.environ.get("ENVPACK_STATE") else {registry(), FOR_THE_HOST}
    for folder in folders:
        for entry in _entries(folder):
            with suppress(OSError):
                data = read_file(entry).rstrip(b"\n")
                path = Path(os.fsdecode(data))
                if b"\0" not in data and entry == _entry(entry.parent, path):
                    yield entry, path


def scan(root: Path) -> Iterator[Path]:
    """Yield every deployment below ``root``, or ``root`` itself; folders that can't be read are skipped."""
    root = Path(os.path.realpath(root))
    for folder, folders, _ in os.walk(root):
        path = Path(folder)
        if is_deployment(path):
            folders.clear()
            yield path
        else:
            folders[:] = sorted(
                name for name in folders if not (name.startswith(".") and name.endswith(".envpack"))
            )


def is_deployment(path: Path) -> bool:
    """Return whether ``path`` is a deployment or an environment that plain tar unpacked.

    Returns False when that can't be read.
    """
    try:
        return is_folder(path) and read_record(path) is not None
    except OSError:
        return False


def _is_surely_gone(path: Path) -> bool:
    try:
        return not is_folder(path) or read_record(path) is None
    except OSError:
        return False


def _entries(folder: Path | None) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if len(path.name) == _NAME] if folder else []
    except OSError:
        return []


_NAME = 64
"""Characters of an entry's name: a sha256, in hexadecimal."""


def _entry(folder: Path, destination: Path) -> Path:
    return folder / hashlib.sha256(os.fsencode(destination)).hexdigest()


def _holds(entry: Path, data: bytes) -> bool:
    try:
        return read_file(entry) == data
    except OSError:
        return False


# --- conda's list of environments ---


def _register_with_conda(destination: Path) -> None:
    """Add a deployment to the user's ``~/.conda/environments.txt``, if there is one.

    As conda does for environments that it makes (conda/core/envs_manager.py, ``register_env``). Without the entry,
    conda only does not list the environment, so errors are ignored.
    """
    line = os.fsencode(destination)
    place = _conda_list()
    if place is None or b"\n" in line or not (destination / "conda-meta").is_dir():
        return
    with suppress(OSError):
        lines = read_file(place)
        if line not in lines.splitlines():
            fd = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                write_all(fd, (b"\n" if lines and not lines.endswith(b"\n") else b"") + line + b"\n")
            finally:
                os.close(fd)


def _unregister_with_conda(destination: Path) -> None:
    line = os.fsencode(destination)
    place = _conda_list()
    if place is None:
        return
    with suppress(OSError):
        lines = read_file(place).splitlines(keepends=True)
        left = [each for each in lines if each.rstrip(b"\n") != line]
        if left != lines:
            mode = stat.S_IMODE(place.stat().st_mode)
            replace_file(place, b"".join(left), mode)


def _conda_list() -> Path | None:
    """Return the user's list of conda environments; None where there is none that this user alone writes."""
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home) or os.environ.get("CONDA_REGISTER_ENVS", "").lower() in _NO:
        return None
    place = Path(home, ".conda", "environments.txt")
    try:
        place = place.resolve(strict=True)  # some users link files like this one
        status = place.lstat()
    except OSError:
        return None
    own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH
    return place if own else None
