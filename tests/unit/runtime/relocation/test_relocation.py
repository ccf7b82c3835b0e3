"""Splices: a prefix written in and taken out again."""

from __future__ import annotations

import marshal

import pytest

from envpack.runtime.errors import IntegrityError
from envpack.runtime.relocation.relocation import Bytecode, Relocation, splices, unsafe_bytes
from envpack.runtime.relocation.shebang import Shebang, shebang_line
from envpack.runtime.relocation.splice import Splice, Splicer, inverse, splice

PLACEHOLDER = b"/placehold_" * 23


def written(stored: bytes, relocation: Relocation, prefix: bytes) -> bytes:
    return splice(stored, splices(relocation, prefix))


def test_text_grows_and_shrinks_with_the_prefix() -> None:
    stored = b"a=" + PLACEHOLDER + b"/lib:" + PLACEHOLDER + b"\n"
    relocation = Relocation(PLACEHOLDER, text=(2, 2 + len(PLACEHOLDER) + 5))
    assert written(stored, relocation, b"/e") == b"a=/e/lib:/e\n"


def test_a_string_in_a_binary_is_padded_and_nothing_behind_it_moves() -> None:
    string = PLACEHOLDER + b"/a:" + PLACEHOLDER + b"/b"
    stored = b"\x7fELF" + string + b"\0tail\0"
    relocation = Relocation(PLACEHOLDER, strings=((4, 4 + len(PLACEHOLDER) + 3, 4 + len(string)),))
    result = written(stored, relocation, b"/opt/x")
    assert len(result) == len(stored)
    assert result.startswith(b"\x7fELF/opt/x/a:/opt/x/b\0")
    assert result.endswith(b"\0tail\0")
    assert splice(result, inverse(splices(relocation, b"/opt/x"))) == stored


@pytest.mark.parametrize(
    ("prefix", "rest", "line"),
    [
        (b"/opt/x", b"/bin/python", b"#!/opt/x/bin/python"),
        (b"/opt/x", b"/bin/python -s", b"#!/opt/x/bin/python -s"),
        (
            b"/opt/my envs/x",
            b"/bin/python3.11 -s -E",
            b"#!/bin/sh\n'''exec' \"/opt/my envs/x/bin/python3.11\" -s -E",
        ),
        (b"/" + b"x" * 120, b"/bin/python", b"#!/bin/sh\n'''exec' \"/" + b"x" * 120),
        (b"/" + b"x" * 120, b"/bin/perl", b"#!/usr/bin/env perl"),
        (b"/" + b"x" * 120, b"/bin/perl -w", b"#!/usr/bin/env -S perl -w"),
    ],
)
def test_a_shebang_takes_the_form_the_kernel_can_run(prefix: bytes, rest: bytes, line: bytes) -> None:
    assert shebang_line(prefix, Shebang(b"#!", rest)).startswith(line)


def test_the_portable_shebang_is_valid_python() -> None:
    line = shebang_line(b"/" + b"x" * 200, Shebang(b"#!", b"/bin/python -s"))
    compile(line + b"\nprint(1)\n", "script", "exec")


def test_a_marshalled_string_keeps_its_length_field_right() -> None:
    code = compile(f"x = {(PLACEHOLDER + b'/share').decode()!r}", "f.py", "exec")
    stored = bytes(16) + marshal.dumps(code)
    at = stored.index(PLACEHOLDER)
    length = len(PLACEHOLDER) + 6
    relocation = Relocation(
        PLACEHOLDER, marshal=((at - 5, stored[at - 5], length, at),), bytecode=Bytecode(0, 2, len(PLACEHOLDER))
    )
    for prefix in (b"/short", b"/l" * 200, "/ümlaut/x".encode()):
        result = written(stored, relocation, prefix)
        assert marshal.loads(result[16:]).co_consts[0] == prefix.decode() + "/share"
        assert splice(result, inverse(splices(relocation, prefix))) == stored


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunks_of_any_size_give_the_same(size: int) -> None:
    data = bytes(range(100))
    todo = [
        Splice(0, data[:5], b"NEW"),
        Splice(5, b"", b"+"),
        Splice(50, data[50:60], b""),
        Splice(100, b"", b"end"),
    ]
    splicer = Splicer(todo)
    out = [piece for start in range(0, 100, size) for piece in splicer.feed(data[start : start + size])]
    assert b"".join(out + splicer.finish()) == b"NEW+" + data[5:50] + data[60:] + b"end"


def test_a_table_that_does_not_fit_the_bytes_is_refused() -> None:
    with pytest.raises(IntegrityError):
        splice(b"abcdef", [Splice(2, b"xx", b"y")])
    with pytest.raises(IntegrityError):
        splice(b"abcdef", [Splice(5, b"fg", b"y")])


def test_characters_that_break_scripts_are_named() -> None:
    assert unsafe_bytes(b"/opt/a b/c-d_e.f+g") == b""
    assert unsafe_bytes(b'/opt/"$x":y\n') == b'\n"$:'
