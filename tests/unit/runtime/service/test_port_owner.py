"""The addresses in /proc/net/tcp and tcp6 that a local client reaches."""

from __future__ import annotations

import pytest

from envpack.runtime.service.ports import _is_local


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("00000000", True),  # 0.0.0.0
        ("0100007F", True),  # 127.0.0.1
        ("3500007F", True),  # 127.0.0.53
        ("0100000A", False),  # 10.0.0.1
        ("00000000000000000000000000000000", True),  # ::
        ("00000000000000000000000001000000", True),  # ::1
        ("0000000000000000FFFF00000100007F", True),  # ::ffff:127.0.0.1
        ("0000000000000000FFFF000000000000", True),  # ::ffff:0.0.0.0
        ("0000000000000000FFFF00000100000A", False),  # ::ffff:10.0.0.1
        ("000080FE00000000FF0050560100A8C0", False),  # an address of a network
    ],
)
def test_wildcards_and_loopback_are_local(address: str, local: bool) -> None:
    assert _is_local(address) is local
