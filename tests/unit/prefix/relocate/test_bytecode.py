"""The strings in marshalled code, against what marshal itself says is there."""

from __future__ import annotations

import importlib.util
import marshal
import py_compile
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.prefix.relocate.bytecode import (
    HEADER,
    Timestamp,
    UnparsableError,
    is_bytecode,
    marshal_strings,
    mentions,
    timestamp,
    timestamp_edit,
)
from envpack.runtime.relocation.splice import splice

MAGIC = importlib.util.MAGIC_NUMBER


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, list, set, frozenset)):
        for item in value:
            yield from strings_in(item)
    elif isinstance(value, types.CodeType):
        for item in (value.co_consts, value.co_names, value.co_filename, value.co_name, value.co_varnames):
            yield from strings_in(item)


@pytest.mark.parametrize("module", ["argparse", "ast", "typing", "_pydecimal"])
def test_every_string_of_a_real_module_is_found_and_no_other(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    code = compile(Path(spec.origin).read_bytes(), "/opt/env/x.py", "exec", dont_inherit=True)
    data = MAGIC + bytes(12) + marshal.dumps(code)
    found = {data[s.text : s.end] for s in marshal_strings(data)}
    assert {text.encode("utf-8", "surrogatepass") for text in strings_in(code)} <= found


def test_every_kind_of_constant_is_stepped_over() -> None:
    constants = (None, ..., True, StopIteration, 1, -(10**40), 1.5, 2j, b"b" * 300, "é", "x" * 300, frozenset({1}))
    values = ((constants, [1, {"key": ("/opt/env", 2)}, {}], {3}), "end")
    data = MAGIC + bytes(12) + marshal.dumps(values)
    assert [data[s.text : s.end] for s in marshal_strings(data)][-2:] == [b"/opt/env", b"end"]


@pytest.mark.parametrize(
    "code",
    [b"", b"z", b"z\x05abc", b"z\x01a!", b"?", b"(\xff\xff\xff\xff", b")\x02N", b"e", b"c\0\0", b"l\x05\0\0\0ab"],
)
def test_damaged_code_is_an_error(code: bytes) -> None:
    with pytest.raises(UnparsableError):
        marshal_strings(MAGIC + bytes(12) + code)


def test_code_of_an_unknown_python_is_not_guessed_at() -> None:
    with pytest.raises(UnparsableError):
        marshal_strings(b"\xff\x7f\r\n" + bytes(12) + b"N")


def test_the_file_name_needs_no_walk_and_a_similar_name_does_not_match() -> None:
    # the code is damaged, so only the quick way finds it
    path = b"/opt/env/lib/x.py"
    quick = MAGIC + bytes(12) + b"\xda" + bytes((len(path),)) + path + b"!"
    assert [m.places for m in mentions(quick, [b"/opt/env"], "lib/x.py")] == [((HEADER + 2, 8),)]
    with pytest.raises(UnparsableError):
        mentions(quick.replace(b"\xda\x11", b"\xda\x10"), [b"/opt/env"], "lib/x.py")


def test_constants_mention_the_prefix_by_the_rules_of_text() -> None:
    values = ("/opt/env/a:/opt/env", "/opt/env2", "x/opt/env", "é /opt/env", b"/opt/env")
    data = MAGIC + bytes(12) + marshal.dumps(values)
    found = [data[m.string.text : m.string.end] for m in mentions(data, [b"/opt/env"], "lib/x.py")]
    assert found == [b"/opt/env/a:/opt/env", "é /opt/env".encode(), b"/opt/env"]
    assert len(mentions(data, [b"/opt/env"], "lib/x.py")[0].places) == 2


def test_the_header_says_what_python_wrote(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text("x = 1\n")
    modes = py_compile.PycInvalidationMode
    compiled = Path(str(py_compile.compile(str(source), invalidation_mode=modes.TIMESTAMP))).read_bytes()
    stamp = timestamp(compiled)
    assert is_bytecode(compiled)
    assert stamp == Timestamp(int(source.stat().st_mtime), 6)
    edited = splice(compiled, timestamp_edit(compiled, Timestamp(315532800, 77)))
    assert timestamp(edited) == Timestamp(315532800, 77) and edited[HEADER:] == compiled[HEADER:]
    assert timestamp_edit(compiled, stamp) == []
    hashed = Path(str(py_compile.compile(str(source), invalidation_mode=modes.CHECKED_HASH))).read_bytes()
    assert is_bytecode(hashed) and timestamp(hashed) is None
