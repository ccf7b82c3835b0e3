"""First lines as installers write them, and the one direct form they are stored in."""

from __future__ import annotations

import pytest

from envpack.prefix.relocate.shebang import first_line, published_lines
from envpack.runtime.relocation.shebang import Shebang, shebang_line

PREFIX = b"/opt/my env"


@pytest.mark.parametrize(
    ("head", "lead", "rest", "left"),
    [
        (b"#!/opt/my env/bin/python3.11 -s\ncode", b"#!", b"/bin/python3.11 -s", b"\ncode"),
        (b"#! /opt/my env/bin/perl\n", b"#! ", b"/bin/perl", b"\n"),
        (b"#!/opt/my env/bin/bash", b"#!", b"/bin/bash", b""),
        # distlib, as in pip
        (
            b"#!/bin/sh\n'''exec' \"/opt/my env/bin/python\" -s \"$0\" \"$@\"\n' '''\nx",
            b"#!",
            b"/bin/python -s",
            b"\nx",
        ),
        # uv
        (b"#!/bin/sh\n'''exec' '/opt/my env/bin/python' \"$0\" \"$@\"\n' '''\nx", b"#!", b"/bin/python", b"\nx"),
        # conda and rattler
        (b"#!/bin/sh\n'''exec' \"/opt/my env/bin/python\" \"$0\" \"$@\" #'''\nx", b"#!", b"/bin/python", b"\nx"),
        (
            b"#!/bin/sh\n'''exec' \"/opt/my env/bin/python\"  -s \"$0\" \"$@\" #'''\n",
            b"#!",
            b"/bin/python -s",
            b"\n",
        ),
    ],
)
def test_every_installer_s_form_becomes_the_direct_one(head: bytes, lead: bytes, rest: bytes, left: bytes) -> None:
    line = first_line(head, [b"/elsewhere", PREFIX])
    assert line is not None
    assert (line.shebang.lead, line.shebang.rest) == (lead, rest)
    assert head[line.end :] == left


@pytest.mark.parametrize(
    "head",
    [
        b"#!/usr/bin/env python\n",
        b"#!/opt/my env2/bin/python\n",
        b"#!/opt/my env/bin/python\r\n",
        b"#!/opt/my env/bin/python -X path=/opt/my env/x\n",
        b"#!/bin/sh\nexec '/opt/my env/bin/python' \"$0\"\n",
        b"#!/bin/sh\n'''exec' \"/usr/bin/python\" \"$0\" \"$@\"\n' '''\n",
        b"text #!/opt/my env/bin/python\n",
    ],
)
def test_what_has_no_direct_form_is_left_alone(head: bytes) -> None:
    assert first_line(head, [PREFIX]) is None


@pytest.mark.parametrize("arguments", [b"", b" -s", b" -E -s"])
@pytest.mark.parametrize("prefix", [b"/e", b"/opt/my env", b"/long/" + b"x" * 150])
def test_the_runtime_s_own_lines_are_understood(prefix: bytes, arguments: bytes) -> None:
    shebang = Shebang(b"#!", b"/bin/python3.11" + arguments)
    line = first_line(shebang_line(prefix, shebang) + b"\ncode\n", [prefix])
    assert line is not None and line.shebang == shebang


def test_the_published_line_is_guessed_from_what_a_long_prefix_left_of_it() -> None:
    through_env = published_lines(b"#!/usr/bin/env perl -w\ncode", PREFIX, b"/PLACEHOLDER")
    assert (22, b"#!/PLACEHOLDER/bin/perl -w") in list(through_env)
    both = b"#!/bin/sh\n'''exec' \"/opt/my env/bin/python\" -s \"$0\" \"$@\" #'''"
    assert (len(both), b"#!/PLACEHOLDER/bin/python -s") in list(published_lines(both, PREFIX, b"/PLACEHOLDER"))
    assert list(published_lines(b"#!/bin/sh\necho", PREFIX, b"/PLACEHOLDER")) == []
