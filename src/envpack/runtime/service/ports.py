"""Who listens on a TCP port of this host, from /proc (proc(5): /proc/net/tcp, /proc/PID/fd)."""

from __future__ import annotations

import errno
import os
import pwd
import socket
from contextlib import closing, suppress
from typing import Iterator, NamedTuple

from envpack.runtime.errors import StartError
from envpack.runtime.fs.io import read_file

_LISTEN = "0A"
"""TCP_LISTEN of <netinet/tcp.h>, in hexadecimal as in the table."""

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


class Listener(NamedTuple):
    """A socket that listens: the user it belongs to, and its process where that may be seen (0 where not)."""

    user: str
    pid: int
    program: str

    @property
    def text(self) -> str:
        """The process in a few words."""
        if self.pid:
            return f"{self.program} (pid {self.pid}, user {self.user})"
        return f"a process of user {self.user}" if self.user else "a process that can't be seen"


def require_free(port: int, own: int | None = None, name: str = "") -> None:
    """Check that nothing listens on a port at the addresses that a local client reaches.

    Args:
        port: The TCP port.
        own: The process of the last start of the command, None if it is not known.
        name: The name of the command.

    Raises:
        StartError: Something does; the message names it.
    """
    found = listener(port)
    if found is None:
        return
    stop = f"Stop it (kill {found.pid})" if found.pid else "Stop it"
    hint = f"{stop}, or use another port with --port, if the command reads the variable PORT."
    again = f": {name} is running already" if own and found.pid == own else ""
    raise StartError(f"port {port} is taken by {found.text}{again}", hint=hint)


def listener(port: int) -> Listener | None:
    """Return what listens on a port at all addresses or at a loopback address; None when nothing does."""
    rows = list(_rows(port))
    if not rows:
        return Listener("", 0, "") if _is_bound(port) else None
    uid, _ = rows[0]
    pid = _process_of({inode for _, inode in rows})
    return Listener(_user(uid), pid, _program(pid) if pid else "")


def _rows(port: int) -> Iterator[tuple[int, str]]:
    """Iterate over the listening sockets of a port: user and inode of each."""
    for table in _TABLES:
        try:
            lines = read_file(table).decode("ascii").splitlines()[1:]
        except (OSError, ValueError):
            continue
        for line in lines:
            fields = line.split()
            address, _, number = fields[1].partition(":")
            if fields[3] == _LISTEN and int(number, 16) == port and _is_local(address):
                yield int(fields[7]), fields[9]


def _is_local(address: str) -> bool:
    """Return whether an address in the table is a wildcard or loopback.

    Each group of four bytes is a number in the byte order of the host: 127.0.0.1 is 0100007F on x86 and ARM.
    """
    data = b"".join(bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8))
    if not any(data):
        return True
    if len(data) == 16:
        mapped = data[:12] == bytes(10) + b"\xff\xff"
        return data == bytes(15) + b"\x01" or (mapped and (data[12] == 127 or not any(data[12:])))
    return data[0] == 127


def _is_bound(port: int) -> bool:
    """Return whether a server could not listen on a port, for systems whose /proc does not tell."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as problem:
            return problem.errno == errno.EADDRINUSE
    return False


def _process_of(inodes: set[str]) -> int:
    targets = {f"socket:[{inode}]" for inode in inodes}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with suppress(OSError):  # another user's process, or one that has ended
            folder = f"/proc/{name}/fd"
            for fd in os.listdir(folder):
                if _link(f"{folder}/{fd}") in targets:
                    return int(name)
    return 0


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _program(pid: int) -> str:
    try:
        return read_file(f"/proc/{pid}/comm").decode("utf-8", "replace").strip()
    except OSError:
        return "a program"
