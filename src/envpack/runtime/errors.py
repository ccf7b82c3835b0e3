"""Every way envpack can fail, each class owning its exit code.

Library code raises these; only the command line (``envpack.cli``) and the runtime's ``__main__`` print
them and exit. The table in docs/exit-codes.md is made from the classes below.
"""

from __future__ import annotations

from typing import Any, ClassVar, Iterable


class EnvpackError(Exception):
    """Root of everything that goes wrong for a reason a person can act on.

    ``message`` says what is wrong and where, in one sentence; ``hint`` says what to do about it; ``details``
    are further lines: every reason, every file, the tail of a log.
    """

    code: ClassVar[int] = 1
    when: ClassVar[str] = "anything not below, or a bug in envpack"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.details: list[str] = list(details)

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` member of the JSON envelope."""
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
    when = "the spec or lock is wrong: file, line, what was expected"


class BuildError(EnvpackError):
    code = 4
    when = "solve, download, link or pip failed: the conflict or the tail of the log"


class PackError(EnvpackError):
    code = 5
    when = "the environment can't be packed faithfully: every reason, all at once"


class FormatError(EnvpackError):
    code = 6
    when = "not a bundle, or a newer format than this version knows"


class FetchError(FormatError):
    when = "a bundle can't be had: no such URL, no permission, no answer, or another one while it was read"


class IntegrityError(EnvpackError):
    code = 7
    when = "damaged, tampered, unsigned where a signature is demanded, or an unsafe member"
    default_hint = "Fetch the bundle again and compare its sha256 with the published one."


class RelocationError(EnvpackError):
    code = 8
    when = "the destination can't be written into some file (too long, ...): every file"


class HostError(EnvpackError):
    code = 9
    when = "this host can't run it: every failed requirement and its remedy"


class DestinationError(EnvpackError):
    code = 10
    when = "the destination exists, is not empty, not writable, has no space, or is locked"


class DeploymentTestError(EnvpackError):
    """One of the bundle's own test commands failed in the new deployment; the previous state is restored."""

    code = 11
    when = "one of the bundle's own tests failed; the previous deployment, if any, is active again"


INTERRUPTED = 130
"""Exit code after Ctrl-C or SIGTERM: nothing half-done is left behind."""
