"""The fast reader of the paths table accepts nothing that the strict one refuses, and both read the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from envpack.runtime.errors import EnvpackError
from envpack.runtime.format import limits
from envpack.runtime.format.json_reader import has_long_number, parse
from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.format.paths_json import read_strict, table_from_json
from envpack.runtime.format.paths_json_fast import read_fast
from envpack.runtime.relocation.relocation import Relocation
from support.paths_tables import table_to_json

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


def written(*records: Any) -> bytes:
    """A table of these records in JSON, as envpack writes it."""
    placeholders = [placeholder.decode() for placeholder in PLACEHOLDERS]
    segment = {"id": "s0", "placeholders": placeholders, "paths": list(records)}
    return json.dumps({"format": 1, "segments": [segment]}, separators=(",", ":")).encode() + b"\n"


def strict(data: bytes) -> PathsTable | str:
    """The table, or the error, of the strict reader."""
    try:
        return read_strict(data)
    except EnvpackError as refused:
        return f"{type(refused).__name__}: {refused.message}"


def both(data: bytes) -> PathsTable | str:
    """The table, or the error, of the two readers together; the fast one must agree with the strict one."""
    expected = strict(data)
    fast = None if has_long_number(data) else read_fast(data.decode())
    assert fast is None or fast == expected
    try:
        assert table_from_json(data) == expected
    except EnvpackError as refused:
        assert f"{type(refused).__name__}: {refused.message}" == expected
    return expected


@pytest.mark.parametrize("odd", [{}, *ODD], ids=repr)
@pytest.mark.parametrize("others", [0, 1, 600])
def test_both_readers_agree_on_a_record(odd: dict[str, Any], others: int) -> None:
    """Alone, and among others that are read many at a time."""
    around = [{**GOOD, "path": f"lib/{number}"} for number in range(others)]
    both(written(*around, {**GOOD, **odd}, *around))


@pytest.mark.parametrize("key", GOOD)
@pytest.mark.parametrize("other", [{}, {"other": 1}], ids=repr)
def test_both_readers_agree_that_a_field_is_missing(key: str, other: dict[str, int]) -> None:
    found = both(written({name: value for name, value in GOOD.items() if name != key} | other))
    assert isinstance(found, str) and f"the field {key!r} is missing" in found


@pytest.mark.parametrize("value", [5, None, [], "x", [GOOD]], ids=repr)
def test_both_readers_agree_on_what_is_no_record(value: Any) -> None:
    assert isinstance(both(written(GOOD, value)), str)


@pytest.mark.parametrize(("relocation", "good"), RELOCATIONS, ids=repr)
def test_both_readers_agree_on_a_relocation(relocation: Any, good: bool) -> None:
    data = written({**GOOD, "relocation": relocation})
    found = both(data)
    if not good:
        assert isinstance(found, str) and "paths[0].relocation" in found
        return
    assert not isinstance(found, str) and [record.relocation is not None for record in found] == [True]
    assert read_fast(data.decode()) is not None


@pytest.mark.parametrize(
    "id", ["", "s0", "é", "\udc80", "x" * 5000, 5, None, ["s0"]], ids=lambda id: repr(id)[:20]
)
@pytest.mark.parametrize("placeholders", [[], [""], ["/p", 5], "/p"], ids=repr)
def test_both_readers_agree_on_a_segment(id: Any, placeholders: Any) -> None:
    other = {"id": "s0", "placeholders": [], "paths": []}
    document = {"format": 1, "segments": [other, {"id": id, "placeholders": placeholders, "paths": [GOOD]}]}
    both(json.dumps(document, separators=(",", ":")).encode())


def test_the_fast_reader_reads_what_envpack_writes() -> None:
    """Without this, reading would only be slower."""
    relocation = Relocation(b"/p", text=(0,))
    records = (
        PathRecord("lib", "directory"),
        PathRecord("lib/a", "file", size=1, sha256="0" * 64),
        PathRecord("lib/b", "file", size=5, sha256="0" * 64, relocation=relocation),
        PathRecord("lib/\xfc", "file", size=5, sha256="0" * 64),
        PathRecord("lib/c", "symlink", target="a"),
        PathRecord("lib/d", "hardlink", target="lib/a"),
    )
    data = table_to_json(PathsTable({"s0": records, "s1": ()}))
    fast = read_fast(data.decode())
    assert fast is not None and fast == read_strict(data)
    assert fast.segments == {"s0": records, "s1": ()}


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"a":NaN}', '{"a":' + "9" * 30 + "}", '{"a":-' + "9" * 5000 + "}", "[" * 9999, '{"a":1}x'],
)
def test_json_that_lies_is_refused_however_it_is_written(text: str) -> None:
    for spelling in (text, text + "\n", text.replace(":", ": ")):
        with pytest.raises(EnvpackError):
            parse(spelling.encode(), "x", max_size=1 << 20, max_values=1 << 20)


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
    found = both(table.replace("]}\n", text).encode())
    assert isinstance(found, str) and ".envpack/paths.json" in found


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_json_is_the_same_however_it_is_written(separators: tuple[str, str]) -> None:
    document = {"a": [1, -5, "\udc80\u00fc", {"b": None}], "c": (1 << 63) - 1}
    text = json.dumps(document, separators=separators)
    assert parse(text.encode(), "x", max_size=1 << 20, max_values=1 << 20).value == document


@pytest.mark.parametrize("odd", range(3))
@pytest.mark.parametrize("spelling", ['{ "id"', '{"unknown":1,"id"'])
def test_a_table_of_which_one_segment_is_written_otherwise_is_the_same_table(odd: int, spelling: str) -> None:
    records = [PathRecord(f"lib/{number}", "file", size=1, sha256="0" * 64) for number in range(3)]
    table = table_to_json(PathsTable({f"s{number}": (record,) for number, record in enumerate(records)}))
    parts = table.split(b'{"id"')
    other = b'{"id"'.join(parts[: odd + 1]) + spelling.encode() + b'{"id"'.join(parts[odd + 1 :])
    assert table != other
    assert both(other) == both(table)
    assert len(set(table_from_json(other).digests.values())) == 3


def test_the_digest_of_a_segment_is_that_of_all_that_is_said_of_it_but_its_id() -> None:
    record = PathRecord("lib/x", "file", size=1, sha256="0" * 64)
    changed = [record._replace(path="lib/y"), record._replace(mtime=5), record._replace(sha256="1" * 64)]
    segments = {"a": (record,), "b": (record,), **{f"c{number}": (each,) for number, each in enumerate(changed)}}
    digests = table_from_json(table_to_json(PathsTable(segments))).digests
    assert digests["a"] == digests["b"]
    assert len(set(digests.values())) == 4
