"""What --ignore may state."""

from __future__ import annotations

from datetime import date

import pytest

from envpack.audit.ignore import Ignore, read_ignore
from envpack.runtime.errors import UsageError


def test_reasons_may_contain_colons() -> None:
    assert read_ignore("CVE-1: see https://x:80/ : 2026-12-31 ") == Ignore(
        "CVE-1", "see https://x:80/", date(2026, 12, 31)
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "CVE-1", "CVE-1:reason", "CVE-1:2026-12-31", "CVE-1::2026-12-31", ":reason:2026-12-31"),
        *("CVE-1:reason:2026-13-01", "CVE-1:reason:20261231", "CVE-1:reason:2026-W01-1", "CVE-1:reason:soon"),
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="ID:REASON:UNTIL"):
        read_ignore(text)
