"""Protected paths, which are never a destination: an environment must not replace folders of the system or homes.

The rules are data. The state of a destination (a folder, empty, writable) is not checked here.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from envpack.runtime.errors import DestinationError

_NAMES = {
    "": "bin boot dev etc home lib lib32 lib64 libx32 media mnt opt proc root run sbin snap srv sys tmp usr var",
    "/dev": "shm",
    "/run": "lock user",
    "/usr": "bin games include lib lib32 lib64 libexec local sbin share src",
    "/usr/local": "bin etc games include lib lib64 man sbin share src",
    "/var": "account cache crash games lib local lock log mail opt run spool tmp yp",
}
SYSTEM = frozenset(["/", *(f"{parent}/{name}" for parent, names in _NAMES.items() for name in names.split())])
"""Folders that every system has and that never belong to one environment (FHS 3.0, chapters 3 to 6,
<https://refspecs.linuxfoundation.org/FHS_3.0/fhs-3.0.html>). Environments may be below some of them, such as
/opt/envs/NAME."""

_BARE = "bin boot dev lib lib32 lib64 libx32 proc sbin sys usr/bin usr/sbin"
CLOSED = tuple(f"/{name}" for name in _BARE.split())
"""Folders below which only the system puts files (FHS 3.0, 3.4 to 3.16, 4.4, 4.10, 6.1)."""

OPEN = ("/dev/shm",)
"""Folders below those of `CLOSED` in which users may put files (a disk in memory: shm_overview(7))."""

_ELSEWHERE = "Choose a separate directory, such as /opt/envs/NAME or ~/envs/NAME."


@dataclass(frozen=True)
class User:
    """The user that deploys: the effective user id, this user's homes, and root's homes (real paths)."""

    uid: int
    homes: tuple[str, ...] = ()
    root_homes: tuple[str, ...] = ("/root",)


def current_user() -> User:
    """Return the user of this process, with the homes from the user database and from HOME."""
    uid = os.geteuid()
    return User(
        uid,
        _real(os.environ.get("HOME", ""), _home(uid)),
        _real("/root", _home(0)),
    )


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:  # a user of a container that is not in the database
        return ""


def _real(*homes: str) -> tuple[str, ...]:
    """Return the real paths of homes; skip "", relative paths, and / or /nonexistent (accounts without a home)."""
    real = [os.path.realpath(home) for home in homes if home.startswith("/")]
    return tuple(dict.fromkeys(home for home in real if home not in ("/", "/nonexistent")))


def check_destination(path: str, user: User, root_home: bool = False) -> None:
    """Raise DestinationError when ``path`` is protected.

    Protected are the folders of the system, homes and the folders that contain one, and for root everything in
    root's home. Pure: uses only its arguments.

    Args:
        path: An absolute path; links in its parents are resolved.
        user: The user that deploys.
        root_home: Allow root to deploy below root's home.

    Raises:
        DestinationError: Nothing may be deployed to ``path``.
    """
    if path in SYSTEM:
        raise DestinationError(f"{path} is a system directory and can't be a destination", hint=_ELSEWHERE)
    for folder in CLOSED:
        if _within(path, folder) and not any(_within(path, allowed) for allowed in OPEN):
            raise DestinationError(f"{path} is in {folder}, which is reserved for the system", hint=_ELSEWHERE)
    for home in user.homes + user.root_homes:
        if _within(home, path):
            what = "is a home directory" if home == path else f"contains the home directory {home}"
            raise DestinationError(f"{path} {what} and can't be a destination", hint=_ELSEWHERE)
    for home in user.root_homes if user.uid == 0 and not root_home else ():
        if _within(path, home):
            raise DestinationError(
                f"{path} is in {home}, the home directory of root, where other users can't use it",
                hint="Choose a directory such as /opt/envs/NAME, or deploy as the user who needs it. Use --allow "
                "root-home if root is the only user, as in a container.",
            )


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
