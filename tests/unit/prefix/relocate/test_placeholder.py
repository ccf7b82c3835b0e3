"""Files no package published: what is stored of them, and what is left alone with a remark."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from envpack.prefix import Entry, FileNormalizer, PrefixContents, Published, Stored
from envpack.prefix.relocate.occurrences import canonical_placeholder
from envpack.prefix.relocate.placeholder import TEXT
from envpack.prefix.scan.windowed_file import WindowedFile, in_memory
from envpack.runtime.relocation.shebang import Shebang
from support import normalized
from support.normalized import deployed

PREFIX = b"/opt/env"


def store(data: bytes, *aliases: bytes, **fields: Any) -> Stored:
    return normalized.store(data, *(aliases or (PREFIX,)), **fields)


def test_a_file_without_the_prefix_is_handed_on_untouched() -> None:
    data = b"nothing here"
    stored = store(data)
    assert stored.pieces[0] is data and stored.relocation is None and not stored.modified


def test_a_script_of_pip_gets_the_first_line_every_kernel_takes_at_any_destination() -> None:
    stored = store(b"#!/opt/env/bin/python3.11\nimport x  # /opt/env/lib\n", mode=0o755)
    assert stored.relocation is not None
    assert stored.relocation.shebang == Shebang(b"#!", b"/bin/python3.11")
    assert deployed(stored, b"/x") == b"#!/x/bin/python3.11\nimport x  # /x/lib\n"
    assert deployed(stored, b"/a b") == (
        b"#!/bin/sh\n'''exec' \"/a b/bin/python3.11\" \"$0\" \"$@\"\n' '''\nimport x  # /a b/lib\n"
    )


def test_direct_and_portable_first_lines_are_stored_as_the_same_bytes() -> None:
    direct = store(b"#!/opt/env/bin/python\ncode\n", mode=0o755)
    portable = store(b"#!/bin/sh\n'''exec' '/opt/env/bin/python' \"$0\" \"$@\"\n' '''\ncode\n", mode=0o755)
    assert direct.sha256 == portable.sha256 and direct.relocation == portable.relocation


def test_a_module_with_a_first_line_stays_one_line_shorter_or_longer() -> None:
    stored = store(b"#!/opt/env/bin/python\ncode\n")
    assert stored.relocation is not None and stored.relocation.text == (2,)


def test_strings_of_two_aliases_get_one_placeholder_and_keep_the_size() -> None:
    data = b"\x7fELF\0/real/env/lib:/env/x\0/env/y\0end"
    stored = store(data, b"/real/env", b"/env")
    assert stored.relocation is not None
    assert stored.relocation.placeholder == canonical_placeholder(4) and stored.relocation.max_prefix_length == 4
    assert stored.size == len(data)
    assert deployed(stored, b"/env") == b"\x7fELF\0/env/lib:/env/x\0\0\0\0\0\0/env/y\0end"
    assert deployed(stored, b"/e") == b"\x7fELF\0/e///lib:/e///x".ljust(25, b"\0") + b"\0/e///y\0end"


def test_the_end_of_a_string_that_others_may_share_stays_in_its_place() -> None:
    data = b"\x7fELF\0/opt/env/lib/plugins\0/opt/env\0/opt/env.bak\0-L/opt/env -lx\0"
    moved = deployed(store(data), b"/e")
    assert moved == (b"\x7fELF\0/e///////lib/plugins\0/e\0\0\0\0\0\0\0/opt/env.bak\0-L/e////// -lx\0")
    assert moved.index(b"lib/plugins") == data.index(b"lib/plugins")


def test_a_string_with_control_characters_is_none() -> None:
    stored = store(b"\0\x01/opt/env\x02\x03packed\0/opt/env/ok\0")
    assert stored.relocation is not None and stored.relocation.padded == (19,)
    assert stored.unrelocatable == ("data that is no text: the build prefix stays at byte 2",)


def zipped(data: bytes, front: bytes = b"") -> bytes:
    buffer = io.BytesIO(front)
    buffer.seek(len(front))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("config.txt", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (zipped(b"/opt/env/lib\0"), "zip archive"),
        (pickle.dumps({"path": "/opt/env/lib", "n": 0}, 4), "pickle"),
        (b"SQLite format 3\0...\0/opt/env/lib\0", "SQLite database"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34\x01\0\x0c/opt/env/lib\x01\0", "Java class"),
    ],
)
def test_formats_that_keep_lengths_are_left_alone_and_reported(data: bytes, kind: str) -> None:
    stored = store(data)
    assert b"".join(in_memory(stored.pieces)) == data and stored.relocation is None
    assert stored.unrelocatable == (f"{kind}: the build prefix stays at byte {data.index(PREFIX)}",)


def test_a_zipapp_runs_the_deployed_interpreter_and_can_still_be_read() -> None:
    data = zipped(b"x = 1", front=b"#!/opt/env/bin/python\n")
    moved = deployed(store(data, mode=0o755), b"/some where")
    assert moved.startswith(b"#!/bin/sh\n'''exec' \"/some where/bin/python\"")
    with zipfile.ZipFile(io.BytesIO(moved)) as archive:
        assert archive.read("config.txt") == b"x = 1"


def test_a_script_with_binary_data_behind_it_stays_one_line_and_its_data_where_it_is() -> None:
    stored = store(b"#!/opt/env/bin/sh\nexec\n\0\x01/opt/env\0", mode=0o755)
    assert deployed(stored, b"/x") == b"#!/x/bin/sh\nexec\n\0\x01/opt/env\0"
    assert stored.unrelocatable == ("binary data behind a script: the build prefix stays at byte 25",)


def test_byte_code_of_pythons_before_3_7_is_left_alone() -> None:
    old = b"\x33\r\r\n" + b"\x11\x22\x33\x44" + b"\x10\0\0\0" + b"\xe3/opt/env/x.py\0"
    stored = store(old, path="lib/__pycache__/x.cpython-36.pyc")
    assert b"".join(in_memory(stored.pieces)) == old and stored.relocation is None


def test_text_is_stored_with_the_placeholder_conda_s_length_of() -> None:
    stored = store(b"prefix=/opt/env\n")
    assert b"".join(in_memory(stored.pieces)) == b"prefix=" + TEXT + b"\n"
    assert len(TEXT) == 255


@pytest.mark.parametrize(
    "data",
    [
        b"nothing",
        b"text /opt/env/lib\n" * 3,
        b"#!/opt/env/bin/python\n# /opt/env\n",
        b"\x7fELF\0/opt/env/lib:/opt/env/x\0rest",
        zipped(b"x", front=b"#!/opt/env/bin/python\n"),
        b"\0\x01/opt/env\x02\0",
    ],
)
def test_a_large_file_is_stored_like_one_in_memory(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        large = WindowedFile.of(file.fileno(), file.name)
    normalizer = FileNormalizer(Path("/"), PrefixContents(Path("/"), (PREFIX,), ()))
    known = Published(hashlib.sha256(data.replace(PREFIX, TEXT)).hexdigest(), None, TEXT, "text")
    for published in (None, known):
        entry = Entry("bin/x", "file", 0o755, len(data), published=published)
        there, read = normalizer.normalize(entry, large), normalizer.normalize(entry, data)
        assert b"".join(in_memory(there.pieces)) == b"".join(in_memory(read.pieces))
        assert (there.sha256, there.relocation, there.modified, there.unrelocatable) == (
            read.sha256,
            read.relocation,
            read.modified,
            read.unrelocatable,
        )
