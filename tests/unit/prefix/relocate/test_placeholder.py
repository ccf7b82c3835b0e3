"""Files no package published: what is stored of them, and what is left alone with a remark."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from envpack.prefix.model import Entry, PrefixContents, Published, Stored
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.prefix.relocate.occurrences import UNMISTAKABLE, Harmless, canonical_placeholder
from envpack.prefix.relocate.placeholder import SCRIPT, TEXT
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
    assert deployed(stored, b"/env") == b"\x7fELF\0/env//////lib:/env/x\0/env/y\0end"
    assert deployed(stored, b"/e") == b"\x7fELF\0/e////////lib:/e///x\0/e///y\0end"


def test_the_end_of_a_string_that_others_may_share_stays_in_its_place() -> None:
    data = b"\x7fELF\0/opt/env/lib/plugins\0/opt/env\0/opt/env.bak\0-L/opt/env -lx\0"
    moved = deployed(store(data), b"/e")
    assert moved == (b"\x7fELF\0/e///////lib/plugins\0/e//////\0/opt/env.bak\0-L/e////// -lx\0")
    assert moved.index(b"lib/plugins") == data.index(b"lib/plugins")


LONG = b"/srv/environments/main"


def test_neighbours_of_a_prefix_in_a_binary_are_other_strings() -> None:
    data = b"\x7fELF\0" + LONG + b"alpha" + LONG + b"/share/thing" + b"second\0hello" + LONG + b"/x\0"
    stored = store(data, LONG)
    moved = b"/e".ljust(len(LONG), b"/")
    assert deployed(stored, b"/e") == data.replace(LONG, moved) and not stored.unrelocatable


@pytest.mark.parametrize(
    "text",
    [b"/data%s/x", b"src/lib%s", b"$HOME%s", b"%%s%s/lib", b"~%s", b"..%s", b"%s.bak", b"%s-2/lib", b"%s@2"],
)
def test_other_paths_in_a_binary_stay_and_are_reported(text: bytes) -> None:
    data = b"\x7fELF\0" + text % LONG + b"\0"
    stored = store(data, LONG)
    assert deployed(stored, b"/e") == data
    (remark,) = stored.unrelocatable
    assert remark.startswith("part of a longer name, '") and remark.endswith(f"at byte {data.index(LONG)}")


def test_a_short_prefix_beside_word_bytes_in_a_binary_stays_and_is_reported() -> None:
    data = b"\x7fELF\0src/opt/environment\0"
    stored = store(data)
    assert deployed(stored, b"/e") == data and len(stored.unrelocatable) == 1


def test_a_longer_path_that_exists_is_no_mention(tmp_path: Path) -> None:
    prefix = tmp_path / "environments" / "main"
    (tmp_path / "environments" / "main2").mkdir(parents=True)
    data = b"\x7fELF\0%s2/lib\0%s3/lib\0" % ((str(prefix).encode(),) * 2)
    stored = store(data, str(prefix).encode())
    assert deployed(stored, b"/e").startswith(b"\x7fELF\0%s2/lib\0/e//" % str(prefix).encode())
    (remark,) = stored.unrelocatable
    assert remark.startswith("the name of another path that exists, ")
    assert isinstance(remark, Harmless)


@pytest.mark.parametrize("kind", ["text", "binary", "byte-code"])
def test_a_longer_path_that_exists_is_no_mention_of_a_long_prefix_either(kind: str, tmp_path: Path) -> None:
    prefix = tmp_path / ("e" * UNMISTAKABLE) / "proj"
    prefix.with_name("proj-dev").mkdir(parents=True)
    own, other = f"{prefix}/lib".encode(), f"{prefix}-dev/lib".encode()
    data = {
        "text": b"%s:%s\n" % (own, other),
        "binary": b"\x7fELF\0%s\0%s\0" % (own, other),
        "byte-code": importlib.util.MAGIC_NUMBER
        + bytes(12)
        + marshal.dumps(compile(f"a, b = {own!r}, {other!r}", "x.py", "exec")),
    }[kind]
    names = {"byte-code": "lib/x.pyc"}
    stored = store(data, str(prefix).encode(), path=names.get(kind, "share/x"))
    found = b"".join(in_memory(stored.pieces))
    assert own not in found and other in found
    (remark,) = stored.unrelocatable
    assert remark.startswith("the name of another path that exists, ") and isinstance(remark, Harmless)


@pytest.mark.parametrize(
    "text",
    [
        b"/opt/env2/lib",
        b"/data/opt/env",
        b"'%s/opt/env'",
        b"$HOME/opt/env",
        "/opt/env\u4e2d".encode(),
        b"/opt/env\xe9",
    ],
)
def test_what_stays_in_text_is_reported(text: bytes) -> None:
    stored = store(b"x = " + text + b"\ny = /opt/env/lib\n")
    assert stored.relocation is not None and len(stored.relocation.text) == 1
    (remark,) = stored.unrelocatable
    assert f"at byte {4 + text.index(PREFIX)}" in remark
    assert len(store(b"x = " + text + b"\n").unrelocatable) == 1


def test_what_stays_in_byte_code_is_reported() -> None:
    code = compile("x = '/opt/env2/lib'\ny = '/opt/env/lib'\n", "x.py", "exec")
    data = importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
    stored = store(data, path="lib/x.pyc")
    assert stored.relocation is not None and len(stored.relocation.marshal) == 1
    (remark,) = stored.unrelocatable
    assert "/opt/env2/lib" in remark and remark.endswith(f"at byte {data.index(b'/opt/env2')}")


def test_a_script_that_was_not_relocated_yet_has_a_line_that_the_kernel_reads() -> None:
    stored = store(b"#!/opt/env/bin/python3.11 -E\nimport x  # /opt/env\n", mode=0o755)
    line = b"".join(in_memory(stored.pieces)).splitlines()[0]
    assert len(line) <= 127 and line.endswith(b"/bin/python3.11 -E") and SCRIPT in line
    assert deployed(stored, b"/e") == b"#!/e/bin/python3.11 -E\nimport x  # /e\n"


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
        (zlib.compress(b"/opt/env/lib", 0), "zlib stream"),
        (b"\x04\x22\x4d\x18\x64\x40\xa7\x0c\0\0\x80/opt/env/lib\0\0\0\0\x01\x02\x03\x04", "LZ4 file"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x12tEXtSource\0/opt/env/x\x01\x02", "PNG image"),
    ],
)
def test_formats_that_keep_lengths_are_left_alone_and_reported(data: bytes, kind: str) -> None:
    stored = store(data)
    assert b"".join(in_memory(stored.pieces)) == data and stored.relocation is None
    assert stored.unrelocatable[0] == f"{kind}: the build prefix stays at byte {data.index(PREFIX)}"


DECIMAL = "serialized text with the lengths of its strings"
BINARY = "serialized data with the lengths of its strings"
LONG, SHORT = b"/opt/environments/of/all/people/env", b"/opt/env"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'a:1:{s:4:"path";s:39:"%s/lib";}' % LONG, DECIMAL),  # PHP
        (b'a:1:{s:4:"path";s:43:"use=%s/lib";}' % LONG, DECIMAL),
        (b'a:1:{s:4:"text";s:41:"# use\n%s";}' % LONG, DECIMAL),
        (b"35:%s," % LONG, DECIMAL),  # netstring
        (b"4:path,39:%s/lib," % LONG, DECIMAL),
        (b"d4:path39:%s/lib3:sizei5ee" % LONG, DECIMAL),  # bencode
        (b"A\n3\n262153\n35\n%s\n" % LONG, "serialized R object"),
        (b"\x81\xa4path\xd9\x23%s" % LONG, BINARY),  # MessagePack
        (b"\x81\xa4path\xd9\x27%s/lib\xa1a" % LONG, BINARY),
        (b"\xa1dpath\x78\x27%s/lib\x03" % LONG, BINARY),  # CBOR
        (b"\xa1dpath\x78\x2d-I%s/include" % LONG, BINARY),
        (b"\xd9\xd9\xf7\xbfdpath\x78\x2d-I%s/includedsize\xc1\x18\x64\xff" % LONG, BINARY),
        (b"\x82\x81\x05\x79\x01\x0e-I%s" % LONG.ljust(268, b"x"), BINARY),
        (b"\n\x27%s/lib\x12\x03abc" % LONG, BINARY),  # protocol buffers
        (b"\n\x2d-I%s/include\x12\x03abc" % LONG, BINARY),
        (b"\x0d\x01\x02\x03\x04\x10\x96\x01\x1a\x98\x01-I%s" % LONG.ljust(150, b"x"), BINARY),
        (b"\x12\x96\x01%s\x18\x01" % LONG.ljust(150, b"x"), BINARY),
        (b"\x9f\xda\x01\x0e%s\xc0" % LONG.ljust(270, b"x"), BINARY),  # MessagePack's str 16
        (b"\x9f\x79\x01\x0e%s\xff" % LONG.ljust(270, b"x"), BINARY),  # CBOR
        (b"\x81\xa3cmd\xd9\x2d-I%s/include" % LONG, BINARY),
        (b'\x04\x08I"\x2d%s/lib\x06:\x06ET' % LONG, "serialized Ruby object"),
    ],
)
def test_serialized_strings_without_nul_are_left_alone_and_reported(data: bytes, kind: str) -> None:
    stored = store(data, LONG)
    assert b"".join(in_memory(stored.pieces)) == data and stored.relocation is None
    assert stored.unrelocatable[0] == f"{kind}: the build prefix stays at byte {data.index(LONG)}"


@pytest.mark.parametrize(
    "text",
    [
        b"12:%s/bin/x: no such file\n" % LONG,
        b"LD_LIBRARY_PATH=/usr/lib64:%s/lib:%s/lib64:/lib\n" % (LONG, LONG),
        b"PATH=/usr/local/cuda-42:%s/bin,0\n" % LONG,
        b"36:%s/include/Python.h\n" % LONG,
        b"a.py:36:%s,b\n" % LONG,
        b"d:36:%s/d\n" % LONG,
        b"PREFIX:%s/lib\n" % LONG,
        b"* %s\n'%s'\n" % (LONG, LONG),
        b"\x1b[1m\x0f*%s\n" % LONG,
        b"at 2.35:%s,\n" % LONG,
        b"root:x:0:0:%s/home:/bin/sh\n" % LONG,
        b"\x1f\n* Run %s/bin/x, and so on. It is one of several\n" % SHORT,
        "\u0444\u0430\u0439\u043b\u044b %s/bin, %s/lib \u0438 %s/share\n".encode("koi8-r").replace(b"%s", SHORT),
        b"caf\xe9 #%s/lib and so on, to the end of the line\n" % LONG,
        b"\n- %s/includes" % LONG,
        b"\n- %s/includes\n\x1f\nFile: x\n" % LONG,
        b"\xa1dice #-I%s/lib!\n" % LONG,
        b's:9:"use\ns:35:"%s"\n' % LONG,
        # a message of Protocol Buffers, in which "/" ends a tag and "o" is a length
        (b"\xe2\x80\x9c%s\xe2\x80\x9d " % LONG).ljust(5 + ord("o"), b"x") + b"\xa0\x04\n",
    ],
)
def test_numbers_before_a_path_in_text_are_no_lengths(text: bytes) -> None:
    prefix = LONG if LONG in text else SHORT
    stored = store(text, prefix)
    assert stored.relocation is not None and stored.unrelocatable == ()
    assert deployed(stored, b"/x") == text.replace(prefix, b"/x")


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
