"""JSON that anything may have written to: what is wrong with it is a ValueError."""

from __future__ import annotations

import pytest

from envpack.runtime.fs.json_text import json_value


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"1" * 5000),
        *(b'{"path": "/a\\u0000b"}', b'["a\\u0000"]', b'{"a\\u0000": 1}', '["\\u0000"]'),
    ],
)
def test_what_is_wrong_is_one_class_of_error(data: bytes | str) -> None:
    with pytest.raises(ValueError):
        json_value(data)


def test_what_only_looks_like_a_nul_is_none() -> None:
    assert json_value(b'["a\\\\u0000", 1, {"b": null}]') == ["a\\u0000", 1, {"b": None}]
