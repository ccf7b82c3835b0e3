"""Every way envpack can fail, each class owning its exit code.

Library code raises these; only the command line (``envpack.cli``) and the runtime's ``__main__`` print
them and exit. The table in docs/exit-codes.md is made from the classes below.
"""

from __future__ import annotations

import errno
import os
from typing import Any, ClassVar, Iterable


class EnvpackError(Exception):
    """Root of everything that goes wrong for a reason a person can act on.

    ``message`` says what is wrong and where, in one sentence; ``hint`` says what to do about it; ``details``
    are further lines: every reason, every file, the tail of a log; ``log`` is all of that log.
    """

    code: ClassVar[int] = 1
    when: ClassVar[str] = "any other error, or a bug in envpack"
    default_hint: ClassVar[str] = ""

    result: dict[str, Any] | None = None
    """The ``result`` of the JSON envelope, for a command that fails because of what it found."""

    def __init__(
        self, message: str, *, hint: str = "", details: Iterable[str] = (), log: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.details: list[str] = list(details)
        self.log: list[str] = list(log)

    def as_dict(self) -> dict[str, Any]:
        """Return the ``error`` member of the JSON envelope."""
        return {
            "code": self.code,
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
        }


class UsageError(EnvpackError):
    code = 2
    when = "wrong arguments"


class SpecError(EnvpackError):
    code = 3
    when = "the spec or the lock is invalid; the message names the file and the line, and what was expected"


class BuildError(EnvpackError):
    code = 4
    when = "solving, downloading, linking or pip failed; the details show the conflict or the end of the log"


class PackError(EnvpackError):
    code = 5
    when = "the environment can't be packed faithfully; the details list every reason"


class FormatError(EnvpackError):
    code = 6
    when = "not a bundle, or its format is newer than this version can read"


class FetchError(FormatError):
    when = "a bundle can't be downloaded: unknown URL, no permission, no response, or it was replaced meanwhile"


class DatabaseError(FormatError):
    when = "the database of envpack audit is missing, empty or damaged, or not in OSV's format"


class IntegrityError(EnvpackError):
    code = 7
    when = "damaged or modified, not signed although a signature is required, or contains an unsafe path"
    default_hint = "Download the bundle again, and compare its SHA-256 with the published one."


class RelocationError(EnvpackError):
    code = 8
    when = "the path of the destination can't be written into a file, for example because it is too long"


class HostError(EnvpackError):
    code = 9
    when = "this host can't run it; the details list every requirement that is not met, with its remedy"


class DestinationError(EnvpackError):
    code = 10
    when = "the destination exists, is not empty, is not writable, has no free space, or is locked"


class DeploymentTestError(EnvpackError):
    """One of the bundle's own test commands failed in the new deployment; the previous state is restored."""

    code = 11
    when = "a test of the bundle failed; the previous deployment, if any, is active again"


class AuditError(EnvpackError):
    """What an audit found is not allowed, or it could judge less than it has to."""

    code = 12
    when = (
        "envpack audit found vulnerabilities that --fail-on names, the database is older than --max-age, too few "
        "packages can be judged, or a deployment can't be read; the details list each reason"
    )


class StartError(EnvpackError):
    """A command of a deployment was not started; 78 is EX_CONFIG of <sysexits.h>, which programs rarely use."""

    code = 78
    when = "envpack run did not start the command: host, mount, port, log or activation; the message says which"


class ReadyError(EnvpackError):
    when = "a command that was started ended, or was not ready in time; the details show the end of its log"


def failed_path(problem: OSError, default: object = "") -> str:
    """Return the path that an OSError names; ``default`` where there is none.

    For a system call on a descriptor Python states the number of that instead (``os.utime(fd)``).
    """
    path = problem.filename
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(default)


def path_hint(problem: OSError) -> str:
    """Return what to do about a path that can't be read or written; "" where another path does not help."""
    if problem.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "Choose a path that you can read and write, or ask for permission."
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some disk space ('df' shows the filesystems), or choose a path on another one."
    if problem.errno == errno.ENAMETOOLONG:
        return "Choose a path with shorter names: a name has at most 255 bytes, a path 4095."
    return ""


def of_the_system(problem: BaseException) -> EnvpackError | None:
    """Return an error that the system or Python raised, in words for people; None for one that envpack caused."""
    if isinstance(problem, OSError) and problem.strerror:
        path = failed_path(problem)
        where = f"{path}: " if path else ""
        hint = path_hint(problem)
        if where and hint:  # without a path it is a standard stream
            return DestinationError(f"{where}{problem.strerror}", hint=hint)
        return EnvpackError(f"{where}{problem.strerror}")
    if isinstance(problem, MemoryError):
        return EnvpackError("out of memory", hint="Use less memory with --jobs 1.")
    if isinstance(problem, RuntimeError) and "can't start new thread" in str(problem):  # CPython, _threadmodule.c
        return EnvpackError(
            "the system allows no further thread",
            hint="Use fewer threads with --jobs 1, or raise the limits of processes and memory (ulimit -u, -v).",
        )
    return None


INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM: nothing half-done is left behind."""
