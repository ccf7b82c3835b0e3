"""Relocation to any prefix and back is the identity, and agrees with an oracle written differently."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from envpack.runtime.relocation.relocation import Relocation, splices
from envpack.runtime.relocation.shebang import Shebang
from envpack.runtime.relocation.splice import Splicer, inverse, splice

PLACEHOLDER = b"/PLACE" * 12
clean = st.binary(max_size=30).filter(lambda data: b"/PLACE" not in data and b"PLACE" not in data)
prefixes = st.binary(min_size=1, max_size=len(PLACEHOLDER)).filter(lambda data: b"\0" not in data)
texts = st.lists(clean, min_size=1, max_size=6)


def joined(parts: list[bytes]) -> tuple[bytes, tuple[int, ...]]:
    data = parts[0]
    offsets = []
    for part in parts[1:]:
        offsets.append(len(data))
        data += PLACEHOLDER + part
    return data, tuple(offsets)


@given(texts, prefixes)
def test_text_is_replaced_everywhere_and_restored(parts: list[bytes], prefix: bytes) -> None:
    stored, offsets = joined(parts)
    forward = splices(Relocation(PLACEHOLDER, text=offsets), prefix)
    result = splice(stored, forward)
    assert result == prefix.join(parts)
    assert splice(result, inverse(forward)) == stored


@given(st.lists(texts, min_size=1, max_size=4), prefixes)
def test_strings_agree_with_a_search_for_the_placeholder(strings: list[list[bytes]], prefix: bytes) -> None:
    stored = b"\x7fELF"
    table = []
    for parts in strings:
        string, offsets = joined([part.replace(b"\0", b"") for part in parts])
        if offsets:
            start = len(stored)
            table.append((*(start + offset for offset in offsets), start + len(string)))
        stored += string + b"\0"

    def pad(match: re.Match[bytes]) -> bytes:
        return match.group().replace(PLACEHOLDER, prefix).ljust(len(match.group()), b"\0")

    oracle = re.sub(rb"[^\0]*" + re.escape(PLACEHOLDER) + rb"[^\0]*(?=\0)", pad, stored)
    forward = splices(Relocation(PLACEHOLDER, strings=tuple(table)), prefix)
    result = splice(stored, forward)
    assert result == oracle
    assert len(result) == len(stored)
    assert splice(result, inverse(forward)) == stored


@given(texts, prefixes, st.integers(1, 50))
def test_a_stream_gives_what_the_whole_gives(parts: list[bytes], prefix: bytes, size: int) -> None:
    stored, offsets = joined(parts)
    forward = splices(Relocation(PLACEHOLDER, text=offsets), prefix)
    splicer = Splicer(forward)
    out = [piece for at in range(0, len(stored), size) for piece in splicer.feed(stored[at : at + size])]
    assert b"".join(out + splicer.finish()) == splice(stored, forward)


@given(prefixes, st.sampled_from([b"/bin/python", b"/bin/python3.11 -s", b"/bin/perl -w", b"/bin/sh"]), clean)
def test_a_shebang_is_restored(prefix: bytes, rest: bytes, body: bytes) -> None:
    stored = b"#!" + PLACEHOLDER + rest + b"\n" + body
    forward = splices(Relocation(PLACEHOLDER, shebang=Shebang(b"#!", rest)), prefix)
    result = splice(stored, forward)
    assert result.endswith(b"\n" + body)
    assert splice(result, inverse(forward)) == stored
