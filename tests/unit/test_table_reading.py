"""The fast ways through a paths table take nothing that the careful ones refuse, and read the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from envpack.runtime import limits
from envpack.runtime.checked import Value, parse
from envpack.runtime.document import _plain_file, _read_record
from envpack.runtime.errors import EnvpackError

GOOD: dict[str, Any] = {
    "path": "lib/a.py",
    "type": "file",
    "mode": 0o644,
    "size": 5,
    "sha256": "0123456789abcdef" * 4,
    "offset": 512,
    "mtime": 315532800,
}
ODD: list[dict[str, Any]] = [
    *({"path": path} for path in ("", "/", "/a", "a/", "a//b", ".", "..", "./a", "../a", "a/.", "a/..", "a/../b")),
    *(
        {"path": path}
        for path in ("a\0b", "a\n/../b", "\udc80", "ü", "a" * 5000, "..a", "a/.b", "a..", "...", 5, None)
    ),
    *({"mode": mode} for mode in (-1, 0o1000, True, 1.0, "5", 0)),
    *({"size": size} for size in (-1, 1 << 63, True, 0.5, 0)),
    *({"offset": offset} for offset in (-1, 1 << 63, False, None)),
    *({"mtime": mtime} for mtime in (-1, limits.MAX_MTIME, limits.MAX_MTIME + 1, 1e9)),
    *({"sha256": digest} for digest in ("", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", 5)),
    *({"type": type_} for type_ in ("symlink", "directory", "socket", ["file"])),
    {"more": 1},
    {"relocation": {}},
]


@pytest.mark.parametrize("odd", [{}, *ODD], ids=repr)
def test_a_plain_file_is_what_the_careful_reader_says(odd: dict[str, Any]) -> None:
    value = {**GOOD, **odd}
    quick = _plain_file(value)
    if quick is not None:
        assert quick == _read_record(Value(value, None, "x"), ())
    if not odd:
        assert quick is not None
    for key in value:
        assert _plain_file({name: value[name] for name in value if name != key} | {"other": 1}) is None


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"a":NaN}', '{"a":' + "9" * 30 + "}", '{"a":-' + "9" * 5000 + "}", "[" * 9999, '{"a":1}x'],
)
def test_json_that_lies_is_refused_however_it_is_written(text: str) -> None:
    for spelling in (text, text + "\n", text.replace(":", ": ")):
        with pytest.raises(EnvpackError):
            parse(spelling.encode(), "x", most=1 << 20, values=1 << 20)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_json_is_the_same_however_it_is_written(separators: tuple[str, str]) -> None:
    document = {"a": [1, -5, "\udc80\u00fc", {"b": None}], "c": (1 << 63) - 1}
    text = json.dumps(document, separators=separators)
    assert parse(text.encode(), "x", most=1 << 20, values=1 << 20).value == document
