"""Vulnerabilities that are left out of the verdict until a date, each for a stated reason."""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

from envpack.runtime.errors import UsageError


class Ignore(NamedTuple):
    """A vulnerability that does not count.

    Attributes:
        id: One of its names.
        reason: Why.
        until: The last day on which it does not count, in UTC.
    """

    id: str
    reason: str
    until: date


def read_ignore(text: str) -> Ignore:
    """Return what an option ``--ignore ID:REASON:UNTIL`` states; the reason may contain colons.

    Raises:
        UsageError: It has another form.
    """
    name, _, rest = text.partition(":")
    reason, _, day = rest.rpartition(":")
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", day.strip(), re.ASCII):
            raise ValueError
        until = date.fromisoformat(day.strip())
    except ValueError:
        until = None
    if until is None or not name.strip() or not reason.strip():
        raise UsageError(
            f"--ignore {text!r} is not of the form ID:REASON:UNTIL",
            hint="For example: --ignore 'GHSA-qr4w-53vh-m672:reads no images of users:2026-12-31'.",
        )
    return Ignore(name.strip(), reason.strip(), until)
