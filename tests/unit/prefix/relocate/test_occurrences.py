"""Mentions of a prefix in bytes, as a path of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.prefix.relocate.occurrences import (
    Occurrence,
    apply,
    canonical_placeholder,
    digest,
    find_prefix,
    not_in,
)
from envpack.prefix.scan.windowed_file import WindowedFile, in_memory
from envpack.runtime.relocation.splice import Splice

PREFIX = b"/opt/env"


@pytest.mark.parametrize(
    "text",
    [
        b"/opt/env",
        b"/opt/env/",
        b'"/opt/env"',
        b"in /opt/env.",
        b"in /opt/env...",
        b"-I/opt/env/include",
        b"-isystem/opt/env/include",
        b"-Wl,-rpath,/opt/env/lib",
        b"--prefix=/opt/env",
        b"-ffile-prefix-map=/opt/env=/usr",
        b"file:///opt/env/pkg",
        b"@/opt/env/args",
        b"EnvironmentFile=-/opt/env/etc",
        b"PATH=/usr/bin:/opt/env:/bin",
        b"'first\\n/opt/env/second'",
        b"'\\x00/opt/env'",
        b"${DESTDIR}/opt/env/lib",
        b"/opt/env%s",
        b"//opt/env",
        b"WASM_ASSETS_DIR=./opt/env",
        b"host:/opt/env",
        "\ufeff/opt/env/lib".encode(),
        "\ufeff-I/opt/env/lib".encode(),
        "in \u201c/opt/env\u201d".encode(),
        "\xab\xa0/opt/env\xa0\xbb".encode(),
        "\u300c/opt/env\u300d".encode(),
        "/opt/env\u2026".encode(),
        b"echo x | sed s@/opt/env@PFX@",
        b"sed 's@PFX@/opt/env@g'",
        b"sed 's@PFX@/opt/env/share@g'",
        b"s+/opt/env+x+",
        b"sed 's@^/opt/env@X@'",
        b"sed s@root=/opt/env@X@",
        b"perl -pe 's+\"/opt/env+x+'",
        b"perl -pe 's~x~/opt/env~'",
        b"name@/opt/env/src",
        b"'\\e/opt/env'",
        b"'\\1/opt/env'",
        b"'\\U0001f600/opt/env'",
        b"\x1b[1;32m/opt/env\x1b[0m",
        b"'\\033[1m/opt/env'",
        b"file://localhost/opt/env",
        b"$DESTDIR/opt/env/lib",
        b"$RPM_BUILD_ROOT/opt/env",
        b"in \xab/opt/env\xbb",
        b"\x93/opt/env\x94",
        b"\xa0/opt/env\xa0",
        "\u8def\u5f84\uff1a/opt/env\uff0c\u4ee5\u53ca".encode(),
        "(\uff08/opt/env/lib\uff09".encode(),
        "a\u2192/opt/env\u2192b".encode(),
        "\u2014/opt/env\u2014".encode(),
        "\u3000/opt/env\u3000".encode(),
        "\u2022/opt/env".encode(),
    ],
)
def test_a_mention_is_found(text: bytes) -> None:
    assert [(o.offset, o.length) for o in find_prefix(text, [PREFIX])] == [(text.index(PREFIX), len(PREFIX))]


@pytest.mark.parametrize(
    "text",
    [
        b"/opt/env2/lib",
        b"/opt/env.bak",
        b"/opt/env-old/lib",
        b"/opt/env_old",
        b"/opt/env~",
        "/opt/envé".encode(),
        b"/data/opt/env",
        "x\u201d-/data/opt/env".encode(),
        "\u201cdata/opt/env".encode(),
        "/opt/env\u4e2d".encode(),
        "/opt/env\u0301".encode(),
        "/opt/env\U0001f680".encode(),
        "\u8def\u5f84/opt/env".encode(),
        "/opt/env.\xe9".encode(),
        b"../opt/env",
        b"a./opt/env",
        b"$HOME/opt/env",
        b"/data-L/opt/env",
        b"/-L/opt/env",
        b"usr/opt/env",
        "/dé/opt/env".encode(),
        b"/opt/env@2/lib",
        b"/opt/env~",
        b"~/opt/env",
        b"s-/opt/env",
        b"x\\yz/opt/env",
        b"%s/opt/env",
        b"$HOMEDIR/opt/env",
        b"file://host/opt/env",
        b"/opt/env\xe9",
        b"\xe9/opt/env",
        b"[1m/opt/env",
    ],
)
def test_part_of_another_path_is_no_mention(text: bytes) -> None:
    assert find_prefix(text, [PREFIX]) == []


def test_both_aliases_are_found_and_the_longer_wins_where_they_overlap() -> None:
    found = find_prefix(b"/real/env/x:/env/y:/env", [b"/env", b"/real/env"])
    assert [(o.offset, o.length) for o in found] == [(0, 9), (12, 4), (19, 4)]


@pytest.mark.parametrize("length", [1, 12, 20, 21, 80, 255, 1000])
def test_the_canonical_placeholder_is_a_path_of_the_requested_length(length: int) -> None:
    placeholder = canonical_placeholder(length)
    assert len(placeholder) == length
    assert placeholder == canonical_placeholder(2000)[:length]
    assert placeholder.startswith(b"/")


def test_edits_copy_nothing_of_a_large_file(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"0123456789")
    with file.open("rb") as opened:
        data = WindowedFile.of(opened.fileno(), opened.name)
    pieces = apply(data, [Splice(2, b"23", b"xyz"), Splice(9, b"9", b"")])
    assert b"".join(in_memory(pieces)) == b"01xyz45678"
    assert [type(piece) for piece in pieces] == [WindowedFile, bytes, WindowedFile]
    assert digest(pieces) == digest([b"01xyz45678"])


@pytest.mark.parametrize(
    ("places", "expected"),
    [([], [0, 9, 30]), ([0], [9, 30]), ([8], [0, 30]), ([5], [30]), ([0, 9, 30], []), ([40], [0, 9, 30])],
)
def test_the_mentions_that_are_left_overlap_none_that_are_taken(places: list[int], expected: list[int]) -> None:
    anywhere = [Occurrence(offset, 8) for offset in (0, 9, 30)]
    left = not_in(anywhere, [Occurrence(offset, 8) for offset in places])
    assert [place.offset for place in left] == expected
