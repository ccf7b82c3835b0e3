"""Places that are never a destination: what the system, or a person, has there is not an environment's to replace.

Rules as data. The rest of what a destination has to be (a folder, empty, writable) is
``envpack.runtime.fs.paths``'s.
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
"""Folders every system has for many things, never for one environment (FHS 3.0, chapters 3 to 6,
<https://refspecs.linuxfoundation.org/FHS_3.0/fhs-3.0.html>); environments go below some of them, such as
/opt/envs/NAME."""

_BARE = "bin boot dev lib lib32 lib64 libx32 proc sbin sys usr/bin usr/sbin"
CLOSED = tuple(f"/{name}" for name in _BARE.split())
"""Folders with nothing below them but what the system puts there (FHS 3.0, 3.4 to 3.16, 4.4, 4.10, 6.1)."""

OPEN = ("/dev/shm",)
"""Of those, where people may (memory as a disk: shm_overview(7))."""

_ELSEWHERE = "Choose a folder of its own, such as /opt/envs/NAME or ~/envs/NAME."


@dataclass(frozen=True)
class User:
    """Who deploys: the effective user id, the homes that are this user's, and root's (real paths)."""

    uid: int
    homes: tuple[str, ...] = ()
    root_homes: tuple[str, ...] = ("/root",)


def current_user() -> User:
    """The user of this process, homes as the user database and HOME have them."""
    uid = os.geteuid()
    return User(
        uid,
        _real(os.environ.get("HOME", ""), _home(uid)),
        _real("/root", _home(0)),
    )


def _home(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:  # a container's user that no database knows
        return ""


def _real(*homes: str) -> tuple[str, ...]:
    """Without those that are none: '', relative ones, and / or /nonexistent as accounts without a home have it."""
    real = [os.path.realpath(home) for home in homes if home.startswith("/")]
    return tuple(dict.fromkeys(home for home in real if home not in ("/", "/nonexistent")))


ROOT_HOME = "root_home"
"""What allows root to deploy below its own home: an option, never a guess."""


def check_destination(path: str, user: User, root_home: bool = False) -> None:
    """Raises DestinationError when nothing may be deployed to ``path`` (absolute, its parents' links resolved),
    whoever asks: the system's own folders, a home itself or what holds one, and for root all of root's home,
    unless ``root_home``.

    Pure: looks at nothing but its arguments.
    """
    if path in SYSTEM:
        raise DestinationError(f"{path} is a folder of the system's, never one environment's", hint=_ELSEWHERE)
    for folder in CLOSED:
        if _within(path, folder) and not any(_within(path, allowed) for allowed in OPEN):
            raise DestinationError(f"{path} lies in {folder}, which is the system's own", hint=_ELSEWHERE)
    for home in user.homes + user.root_homes:
        if _within(home, path):
            what = "is a home" if home == path else f"holds the home {home}"
            raise DestinationError(f"{path} {what}, which is nothing to deploy over", hint=_ELSEWHERE)
    for home in user.root_homes if user.uid == 0 and not root_home else ():
        if _within(path, home):
            raise DestinationError(
                f"{path} lies in {home}, the home of root, where no other user can use it",
                hint="Choose a folder such as /opt/envs/NAME, deploy as the user who is to have it, or say "
                "--allow root-home, as in a container that is root's alone.",
            )


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
