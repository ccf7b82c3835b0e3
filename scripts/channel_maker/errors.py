"""The one error of the channel maker."""

from __future__ import annotations

from collections.abc import Iterable


class ChannelError(Exception):
    """Something a person can act on.

    ``message`` says in one sentence what is wrong and where, ``hint`` what to do about it, ``details`` are
    further lines (the tail of a log).
    """

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)
