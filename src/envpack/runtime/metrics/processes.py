"""The processes that run from deployments, found in /proc.

A process belongs to a deployment when its program, or a library that it has mapped, is in it: the kernel names
files by where they are now, so a process that was started before an upgrade has the path of the previous
generation. Only processes that this user may look at are seen (ptrace(2): all for root), and only those in the
mount namespace of this process: in others, such as those of containers, the same path may be another file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from envpack.runtime.fs.io import read_file

CURRENT, KEPT, GONE = "current", "kept", "gone"
"""Where a process runs from, in the words of `envpack history`: the current generation of the deployment, a
previous one, and one that has been removed meanwhile."""

_DELETED = b" (deleted)"
"""What the kernel adds to the name of a file that has been removed (proc(5), /proc/PID/exe)."""


@dataclass(frozen=True)
class Place:
    """Where the trees of a deployment are.

    Attributes:
        path: The path of the deployment, by which it is known.
        tree: The real path of its current generation.
        state: The real path of its state directory, which has the other generations.
    """

    path: str
    tree: bytes
    state: bytes


@dataclass(frozen=True)
class Process:
    """A process of a deployment.

    Attributes:
        path: The path of the deployment.
        generation: `CURRENT`, `KEPT` or `GONE`.
        resident: The bytes of memory that it has in use, shared ones included.
        cuda: Whether it has loaded CUDA's driver library.
    """

    path: str
    generation: str
    resident: int
    cuda: bool


def processes_of(places: list[Place], proc: str = "/proc") -> dict[int, Process]:
    """Return the processes of deployments by their number, this one apart.

    Args:
        places: The deployments.
        proc: The folder of the kernel's files.
    """
    found: dict[int, Process] = {}
    if not places:
        return found
    namespace = _link(f"{proc}/self/ns/mnt")
    for name in os.listdir(proc):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            process = _process(f"{proc}/{name}", places, namespace)
        except OSError:  # it has ended, or is another user's
            continue
        if process is not None:
            found[int(name)] = process
    return found


def _process(folder: str, places: list[Place], namespace: str) -> Process | None:
    program = os.fsencode(os.readlink(f"{folder}/exe"))
    if _link(f"{folder}/ns/mnt") != namespace:
        return None
    owner = owner_of(program, places)
    maps = read_file(f"{folder}/maps")
    if owner is None:
        owner = owner_of_mapped(maps, places)
    if owner is None:
        return None
    resident = int(read_file(f"{folder}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Process(*owner, resident, b"/libcuda.so" in maps)


def process_of_thread(number: int, proc: str = "/proc") -> int:
    """Return the number of the process that a thread is of; the same number where that is not known.

    Args:
        number: The number of the thread, or of a process.
        proc: The folder of the kernel's files.
    """
    try:
        for line in read_file(f"{proc}/{number}/status").splitlines():
            if line.startswith(b"Tgid:"):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return number


def owner_of(file: bytes, places: list[Place]) -> tuple[str, str] | None:
    """Return the path of the deployment that a file is in, and the generation; None when it is in none. Pure.

    Args:
        file: The path of the file, as the kernel states it.
        places: The deployments.
    """
    inside = [
        (len(root), place, root)
        for place in places
        for root in (place.tree, place.state)
        if file.startswith(root + b"/")
    ]
    if not inside:
        return None
    _, place, root = max(inside, key=lambda item: item[0])  # a deployment may be in a folder of another
    if root == place.tree:
        return place.path, CURRENT
    generation = file[len(root) + 1 :].split(b"/")[0]
    return place.path, KEPT if generation.isdigit() and not file.endswith(_DELETED) else GONE


def owner_of_mapped(maps: bytes, places: list[Place]) -> tuple[str, str] | None:
    """Return the deployment and generation of the first mapped file that is in one; None when none is. Pure.

    Args:
        maps: The content of /proc/PID/maps (proc(5)): a newline in a path is the four characters \\\\012 there.
        places: The deployments.
    """
    roots = [root.replace(b"\n", b"\\012") for place in places for root in (place.tree, place.state)]
    if not any(b" " + root + b"/" in maps for root in roots):
        return None
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6:
            owner = owner_of(fields[5].replace(b"\\012", b"\n"), places)
            if owner is not None:
                return owner
    return None


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
