"""JSON that anything may have written to: what is wrong with it is a ValueError."""

from __future__ import annotations

import os

import pytest

from envpack.runtime.fs.json_text import json_value


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff", b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"1" * 5000),
        *(b'{"path": "/a\\u0000b"}', b'["a\\u0000"]', b'{"a\\u0000": 1}', '["\\u0000"]'),
        *('["\\u0000"]'.encode("utf-16"), b'{"a": ["/\\ud800/b"]}', b'{"\\uDBFF": 1}', b'["\\udc7f"]'),
        *('["\ud800"]', b'["\xed\xa0\x80"]'),
    ],
)
def test_what_is_wrong_is_one_class_of_error(data: bytes | str) -> None:
    with pytest.raises(ValueError):
        json_value(data)


def test_what_only_looks_like_a_nul_is_none() -> None:
    assert json_value(b'["a\\\\u0000", 1, {"b": null}]') == ["a\\u0000", 1, {"b": None}]


def test_other_surrogates_are_characters_or_bytes_of_a_path() -> None:
    assert json_value(b'["\\ud83d\\ude00", "\\udc80\\udcff"]') == ["\U0001f600", os.fsdecode(b"\x80\xff")]
    assert json_value(b'\xef\xbb\xbf["\xc3\xbc"]') == ["\xfc"]
