"""Back from what an installer wrote to what the package published."""

from __future__ import annotations

import hashlib

import pytest

from envpack.prefix.model import Published
from envpack.prefix.relocate.occurrences import apply
from envpack.prefix.relocate.restore_published import Restored, restore_published, without_prefix
from envpack.runtime.relocation.shebang import Shebang

PLACEHOLDER = b"/h/" + b"placehold_" * 25
PREFIX = b"/opt/env"
LONG = b"/opt/" + b"long" * 40


def back(published: bytes, installed: bytes, *aliases: bytes, mode: str = "text") -> Restored:
    """The way back, which must be the same whatever size the record gives: the published file's, as conda writes
    it, the installed file's, as rattler does, or none, as in old packages."""
    answers = []
    for size in (len(published), len(installed), None):
        known = Published(hashlib.sha256(published).hexdigest(), size, PLACEHOLDER, mode)
        found = restore_published(installed, known, aliases or (PREFIX,), executable=True)
        assert found is not None
        assert b"".join(apply(installed, found.edits)) == published
        answers.append(found)
    assert answers[0] == answers[1] == answers[2]
    return answers[0]


def test_text_with_a_short_first_line() -> None:
    code = b"/bin/python -s\nroot = '%s/x'\n"
    found = back(b"#!" + PLACEHOLDER + code % PLACEHOLDER, b"#!" + PREFIX + code % PREFIX)
    assert found.relocation is not None
    assert found.relocation.shebang == Shebang(b"#!", b"/bin/python -s")
    assert found.relocation.text == (2 + len(PLACEHOLDER) + 15 + 8,)


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        (b"#!/bin/sh\n'''exec' \"" + LONG + b'/bin/python3.11" -E "$0" "$@" #\'\'\'', b"/bin/python3.11 -E"),
        (b"#!/usr/bin/env python3.11 -E", b"/bin/python3.11 -E"),
        (b"#!/bin/sh\n'''exec' \"" + LONG + b'/bin/python3.11" -E "$0" "$@"\n\' \'\'\'', b"/bin/python3.11 -E"),
        (b"#!/usr/bin/env -S perl -E", b"/bin/perl -E"),
        (b"#!/usr/bin/env -S " + LONG + b"/bin/perl -E", b"/bin/perl -E"),
    ],
    ids=["rattler", "conda", "envpack", "envpack, not Python", "envpack, by conda-unpack"],
)
@pytest.mark.parametrize("lead", [b"#!", b"#! "])
def test_first_lines_rewritten_because_they_were_too_long(line: bytes, rest: bytes, lead: bytes) -> None:
    code = b"\nhere = '%s'\n"
    found = back(lead + PLACEHOLDER + rest + code % PLACEHOLDER, line + code % LONG, LONG)
    form = "perl" if b"perl" in rest else ""
    assert found.relocation is not None and found.relocation.shebang == Shebang(lead, rest, form)
    assert len(found.relocation.text) == 1


def test_a_portable_first_line_that_was_published_stays_one() -> None:
    published = b"#!/bin/sh\n'''exec' \"%s/bin/python\" \"$0\" \"$@\"\n' '''\n"
    found = back(published % PLACEHOLDER, published % PREFIX)
    assert found.relocation is not None and found.relocation.shebang is None
    assert found.relocation.text == (20,)


def test_a_file_that_mentioned_this_very_prefix_when_it_was_published() -> None:
    # /opt/conda in a container: the size says that one of three was the placeholder
    published = b"docs: /opt/env\n" + PLACEHOLDER + b"/lib\nmore: /opt/env\n"
    found = back(published, published.replace(PLACEHOLDER, PREFIX))
    assert found.relocation is not None and found.relocation.text == (15,)


def test_strings_several_in_one_and_without_an_end() -> None:
    published = b"\x7fELF\0" + PLACEHOLDER + b"/a:" + PLACEHOLDER + b"/b\0data\0" + PLACEHOLDER + b"/c"
    room = bytes(len(PLACEHOLDER) - len(PREFIX))
    installed = b"\x7fELF\0" + PREFIX + b"/a:" + PREFIX + b"/b" + room * 2 + b"\0data\0" + PREFIX + b"/c" + room
    found = back(published, installed, mode="binary")
    first, second = 5, 5 + len(PLACEHOLDER) + 3
    third = second + len(PLACEHOLDER) + 2 + 6
    assert found.relocation is not None
    assert found.relocation.padded == (first, second, third)
    assert found.relocation.strings == ()


def test_a_binary_that_envpack_deployed_before_is_the_published_one_too() -> None:
    published = b"\x7fELF\0" + PLACEHOLDER + b"/a:" + PLACEHOLDER + b"\0data\0"
    room = len(PLACEHOLDER) - len(PREFIX)
    installed = b"\x7fELF\0" + PREFIX + b"/" * room + b"/a:" + PREFIX + bytes(room) + b"\0data\0"
    assert back(published, installed, mode="binary").relocation is not None


def test_a_string_with_the_prefix_that_no_installer_wrote() -> None:
    published = b"/opt/env/literal\0x\0" + PLACEHOLDER + b"/lib\0"
    installed = b"/opt/env/literal\0x\0" + PREFIX + b"/lib\0" + bytes(len(PLACEHOLDER) - len(PREFIX))
    found = back(published, installed, mode="binary")
    assert found.relocation is not None and found.relocation.padded == (19,)


def test_what_no_installer_replaced_yet_is_relocated_all_the_same() -> None:
    # an archive that was unpacked and never set up
    found = back(b"x = '" + PLACEHOLDER + b"/lib'", b"x = '" + PLACEHOLDER + b"/lib'")
    assert found.edits == () and found.relocation is not None and found.relocation.text == (5,)


def test_the_alias_the_installer_was_given_is_tried_as_well() -> None:
    assert back(PLACEHOLDER + b"/lib", b"/link/env/lib", b"/data/real/env", b"/link/env").edits


@pytest.mark.parametrize("installed", [b"/opt/env/lib", b"/opt/env/lib2 ", b"", b"/opt/env/lib2\n/opt/env"])
@pytest.mark.parametrize("mode", ["text", "binary"])
def test_an_edited_file_is_not_restored_to_the_published_one(installed: bytes, mode: str) -> None:
    published = PLACEHOLDER + b"/lib2"
    known = Published(hashlib.sha256(published).hexdigest(), len(published), PLACEHOLDER, mode)
    assert restore_published(installed, known, [PREFIX]) is None


def test_a_prefix_longer_than_the_placeholder_has_no_way_back_in_binaries() -> None:
    published = PLACEHOLDER + b"\0"
    known = Published(hashlib.sha256(published).hexdigest(), len(published), PLACEHOLDER, "binary")
    prefix = b"/" + b"x" * 300
    assert restore_published(prefix + b"\0", known, [prefix]) is None


# --- packages without paths.json: the placeholder is known, and no digest of what was published ---

OLD = b"/opt/anaconda1anaconda2anaconda3"


def installed(published: bytes, prefix: bytes) -> bytes:
    """Install a binary as conda does (conda/core/portability.py, binary_replace): NULs behind the whole string."""
    strings = published.split(b"\0")
    made = [
        string.replace(OLD, prefix) + bytes(string.count(OLD) * (len(OLD) - len(prefix))) for string in strings
    ]
    return b"\0".join(made)


def test_a_binary_without_a_published_digest_gets_its_placeholder_back() -> None:
    published = b"\x7fELF\0" + OLD + b"/lib\0other\0a=" + OLD + b":b=" + OLD + b"\0end\0"
    known = Published("", None, OLD, "binary")
    data = installed(published, PREFIX)
    assert restore_published(data, known, [PREFIX]) is None  # nothing proves it
    found = without_prefix(data, known, [PREFIX])
    assert found is not None and b"".join(apply(data, found.edits)) == published
    assert found.relocation is not None and found.relocation.max_prefix_length == len(OLD)


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\0" + PREFIX + b"/lib\0other\0",  # less room than an installer leaves
        b"\x7fELF\0" + PREFIX + b"2/lib\0" + bytes(30),  # another path
        b"\x7fELF\0/lib\0" + bytes(30),  # no path at all
    ],
    ids=["no room", "another path", "no mention"],
)
def test_a_binary_that_an_installer_may_not_have_written_is_left_to_the_search(data: bytes) -> None:
    assert without_prefix(data, Published("", None, OLD, "binary"), [PREFIX]) is None
