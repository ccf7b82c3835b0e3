"""To which deployment a file belongs that a process runs or has mapped."""

from __future__ import annotations

import pytest

from envpack.runtime.metrics.processes import CURRENT, GONE, KEPT, Place, owner_of, owner_of_mapped

X = Place("/opt/x", b"/srv/x", b"/srv/.x.envpack")
INNER = Place("/opt/x/inner", b"/srv/x/inner", b"/srv/x/.inner.envpack")
ODD = Place("/opt/o", b"/srv/two\nlines", b"/srv/.two\nlines.envpack")
PLACES = [X, INNER, ODD]


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        (b"/srv/x/bin/python3.11", ("/opt/x", CURRENT)),
        (b"/srv/x/bin/python3.11 (deleted)", ("/opt/x", CURRENT)),
        (b"/srv/.x.envpack/12/bin/python3.11", ("/opt/x", KEPT)),
        (b"/srv/.x.envpack/12/bin/python3.11 (deleted)", ("/opt/x", GONE)),
        (b"/srv/.x.envpack/trash-12/bin/python3.11 (deleted)", ("/opt/x", GONE)),
        (b"/srv/x/inner/bin/tool", ("/opt/x/inner", CURRENT)),
        (b"/srv/two\nlines/bin/tool", ("/opt/o", CURRENT)),
        (b"/srv/xy/bin/tool", None),
        (b"/srv/x", None),
        (b"/opt/x/bin/tool", None),  # the kernel states real paths
        (b"/usr/bin/python3", None),
        (b"", None),
    ],
)
def test_a_program(file: bytes, owner: tuple[str, str] | None) -> None:
    assert owner_of(file, PLACES) == owner


def maps(*files: bytes) -> bytes:
    lines = [
        b"7f5e10000000-7f5e10021000 rw-p 00000000 00:00 0 ",
        b"7ffd3000-7ffd3100 r-xp 00000000 00:00 0  [vdso]",
    ]
    lines += [b"7f5e18000000-7f5e18021000 r-xp 00000000 fe:00 1234    " + file for file in files]
    return b"".join(line + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("files", "owner"),
    [
        ((), None),
        ((b"/usr/bin/sh", b"/usr/lib/libc.so.6"), None),
        ((b"/usr/bin/sh", b"/srv/x/lib/lib a.so"), ("/opt/x", CURRENT)),
        ((b"/srv/.x.envpack/3/lib/liba.so",), ("/opt/x", KEPT)),
        ((b"/srv/two\\012lines/lib/liba.so",), ("/opt/o", CURRENT)),  # as the kernel writes a newline
        ((b"/usr/lib/of /srv/x/lib/liba.so",), None),
    ],
)
def test_a_mapped_file(files: tuple[bytes, ...], owner: tuple[str, str] | None) -> None:
    assert owner_of_mapped(maps(*files), PLACES) == owner
