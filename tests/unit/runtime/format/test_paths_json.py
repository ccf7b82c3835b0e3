"""The fast ways through a paths table take nothing that the careful ones refuse, and read the same."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from envpack.runtime.errors import EnvpackError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import JsonValue, has_long_number, parse
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.path_record_json import read_record
from envpack.runtime.format.paths_json import table_from_json, table_to_json
from envpack.runtime.format.paths_json_fast import _are_plain, _may_be_plain, _plain_fields, read_records

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
]


PLACEHOLDERS = (b"/placeholder", b"/p")
RELOCATIONS: list[tuple[Any, bool]] = [
    ({"placeholder": 1, "text": [0, 2]}, True),
    ({"placeholder": 1, "marshal": [[0, 122, 3, 2]]}, True),
    ({"placeholder": 1, "strings": [[0, 4]], "unknown": 5}, True),
    ({"placeholder": 1, "bytecode": [1, 1, 2]}, False),
    ({}, False),
    ([], False),
    (5, False),
    ({"placeholder": 2, "text": [0]}, False),
    ({"placeholder": 0, "text": [0]}, False),
    ({"placeholder": 1, "text": []}, False),
    ({"placeholder": 1, "text": [0, 1]}, False),
    ({"placeholder": 1, "text": [-1]}, False),
    ({"placeholder": 1, "padded": [4]}, False),
    ({"placeholder": 1, "marshal": [[0, 5, 3, 2]]}, False),
    ({"placeholder": 1, "marshal": [[0, 122, 3]]}, False),
    ({"placeholder": 1, "strings": [[0, 1]]}, False),
    ({"placeholder": 1, "encoded": {"rot13": [0]}}, False),
    ({"placeholder": 1, "shebang": ["#!"]}, False),
]


def quick_reading(value: dict[str, Any]) -> PathRecord | None:
    if not _may_be_plain(value) or not _are_plain([_plain_fields(value)]):
        return None
    return next(read_records(JsonValue([value], None, "paths"), PLACEHOLDERS))


@pytest.mark.parametrize("odd", [{}, *ODD], ids=repr)
def test_a_plain_file_is_what_the_careful_reader_says(odd: dict[str, Any]) -> None:
    value = {**GOOD, **odd}
    quick = quick_reading(value)
    if quick is not None:
        assert quick == read_record(JsonValue(value, None, "x"), ())
    if not odd:
        assert quick is not None
    for key in value:
        assert quick_reading({name: value[name] for name in value if name != key} | {"other": 1}) is None


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_one_among_others_is_read_as_alone(odd: dict[str, Any]) -> None:
    values = [{**GOOD, "path": "a"}, {**GOOD, **odd}, {**GOOD, "path": "b"}] * 1000
    paths = JsonValue(values, None, "paths")
    try:
        alone = read_record(JsonValue(values[1], paths, 1), ())
    except EnvpackError as refused:
        with pytest.raises(type(refused), match=re.escape(refused.message)):
            list(read_records(paths, ()))
    else:
        read = list(read_records(paths, ()))
        assert read[1::3] == [alone] * 1000
        assert [record.path for record in read[::3] + read[2::3]] == ["a"] * 1000 + ["b"] * 1000


@pytest.mark.parametrize(("relocation", "good"), RELOCATIONS, ids=repr)
def test_so_is_one_with_a_prefix_in_it(relocation: Any, good: bool) -> None:
    value = {**GOOD, "relocation": relocation}
    careful = JsonValue(value, JsonValue([value], None, "paths"), 0)
    if good:
        quick = quick_reading(value)
        assert quick is not None and quick.relocation is not None
        assert quick == read_record(careful, PLACEHOLDERS)
        return
    with pytest.raises(EnvpackError) as refused:
        read_record(careful, PLACEHOLDERS)
    with pytest.raises(type(refused.value)) as refused_quickly:
        quick_reading(value)
    assert refused_quickly.value.message == refused.value.message
    assert "paths[0].relocation" in refused.value.message


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"a":NaN}', '{"a":' + "9" * 30 + "}", '{"a":-' + "9" * 5000 + "}", "[" * 9999, '{"a":1}x'],
)
def test_json_that_lies_is_refused_however_it_is_written(text: str) -> None:
    for spelling in (text, text + "\n", text.replace(":", ": ")):
        with pytest.raises(EnvpackError):
            parse(spelling.encode(), "x", most=1 << 20, values=1 << 20)


@pytest.mark.parametrize("before", ["", "[", "[1,", '{"a":', '{"a": ', '{"a":\n\t', "[1, -", "-"])
def test_a_number_beyond_64_bits_is_seen_before_it_is_read(before: str) -> None:
    assert has_long_number(f"{before}{'9' * 20}".encode())
    assert not has_long_number(f"{before}{'9' * 19}".encode())
    assert not has_long_number(f'{before}"{"9" * 64}"'.encode())


@pytest.mark.parametrize(
    "text",
    ["", "]", "]}x", "],}", ",]}", ",,]}", "x]}", ',{"id":"s0","placeholders":[],"paths":[]}]}', ",{}]}", ",5]}"]
    + [f',{{"id":"s1","placeholders":{deep},"paths":[]}}]}}' for deep in ("[" * 5000, "[" * 900 + "]" * 900)]
    + [',{"id":"s1","placeholders":[],"paths":[' + "1" * 30 + "]}]}"],
    ids=lambda text: text[:40],
)
def test_a_table_that_ends_otherwise_is_refused(text: str) -> None:
    table = table_to_json(PathsTable({"s0": (PathRecord("lib/a", "file", sha256="0" * 64),)})).decode()
    assert table.endswith("]}\n") and table_from_json(table.rstrip("\n").encode())
    with pytest.raises(EnvpackError, match=r"\.envpack/paths\.json"):
        table_from_json(table.replace("]}\n", text).encode())


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_json_is_the_same_however_it_is_written(separators: tuple[str, str]) -> None:
    document = {"a": [1, -5, "\udc80\u00fc", {"b": None}], "c": (1 << 63) - 1}
    text = json.dumps(document, separators=separators)
    assert parse(text.encode(), "x", most=1 << 20, values=1 << 20).value == document


@pytest.mark.parametrize("odd", range(3))
@pytest.mark.parametrize("spelling", ['{ "id"', '{"unknown":1,"id"'])
def test_a_table_of_which_one_segment_is_written_otherwise_is_the_same_table(odd: int, spelling: str) -> None:
    records = [PathRecord(f"lib/{number}", "file", size=1, sha256="0" * 64) for number in range(3)]
    table = table_to_json(PathsTable({f"s{number}": (record,) for number, record in enumerate(records)}))
    parts = table.split(b'{"id"')
    other = b'{"id"'.join(parts[: odd + 1]) + spelling.encode() + b'{"id"'.join(parts[odd + 1 :])
    assert table != other
    assert table_from_json(other) == table_from_json(table)
    assert len(set(table_from_json(other).digests.values())) == 3


def test_the_digest_of_a_segment_is_that_of_all_that_is_said_of_it_but_its_id() -> None:
    record = PathRecord("lib/x", "file", size=1, sha256="0" * 64)
    changed = [record._replace(path="lib/y"), record._replace(mtime=5), record._replace(sha256="1" * 64)]
    segments = {"a": (record,), "b": (record,), **{f"c{number}": (each,) for number, each in enumerate(changed)}}
    digests = table_from_json(table_to_json(PathsTable(segments))).digests
    assert digests["a"] == digests["b"]
    assert len(set(digests.values())) == 4
