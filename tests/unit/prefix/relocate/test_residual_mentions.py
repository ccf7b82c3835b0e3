"""Mentions of the prefix that no search for its bytes sees are found, and what only looks like one is not."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import mmap
import random
import sqlite3
import tarfile
import zipfile
import zlib
from importlib import resources
from pathlib import Path

import pytest
import zstandard

from envpack.prefix.relocate.residual_mentions import LIMIT, ResidualSearch, matters
from envpack.prefix.scan.prune import translate

PREFIX = b"/opt/env"
LZMA2 = {"id": lzma.FILTER_LZMA2, "preset": 6 | lzma.PRESET_EXTREME}
TEXT = b"path = /opt/env/lib/x\n"


def remarks(data: bytes, *, relocated: bool = False, aliases: tuple[bytes, ...] = (PREFIX,)) -> tuple[str, ...]:
    found = ResidualSearch(aliases)(data, relocated=relocated)
    assert not found.cut
    return found.remarks


def noise(size: int) -> bytes:
    return random.Random(1).randbytes(size)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, front: bytes = b"") -> bytes:
    buffer = io.BytesIO(front)
    buffer.seek(len(front))
    with zipfile.ZipFile(buffer, "a", method) as archive:
        archive.writestr("folder/", b"")
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("inside.txt")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_utf_16_is_found_in_either_byte_order(encoding: str) -> None:
    data = 'set HOME="/opt/env/lib"\r\n'.encode(encoding)
    (remark,) = remarks(data)
    at = int(remark.removeprefix("UTF-16 text: the build prefix stays at byte "))
    assert data[at - 2 : at + 16].replace(b"\0", b"") in (b'"/opt/env', b'"/opt/env/', b"/opt/env/")


@pytest.mark.parametrize("text", ["/opt/env2/lib", "/opt/env.bak", "/data/opt/env/lib", "x/opt/env"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_of_another_path_is_none(text: str, encoding: str) -> None:
    assert remarks(f"a={text}\n".encode(encoding)) == ()


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_is_found_in_either_byte_order(encoding: str) -> None:
    data = b"\x7fELF\0\0\0\0" + 'x="/opt/env/lib"\0'.encode(encoding)
    (remark,) = remarks(data)
    assert remark.startswith("UTF-32 text: the build prefix stays at byte ")
    assert remarks("/opt/other".encode(encoding)) == ()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_every_object_of_an_r_database_is_searched(kind: str) -> None:
    pack, mark = {
        "gzip": (zlib.compress, b""),
        "bzip2": (bz2.compress, b"2"),
        "xz": (lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=[LZMA2]), b"Z"),
    }[kind]
    objects = [noise(3000), b"x" * 5_000_000, TEXT, noise(100)]
    packed = [len(data).to_bytes(4, "big") + mark + pack(data) for data in objects]
    assert remarks(b"".join(packed)) == ("R database, compressed: the build prefix stays",)
    assert remarks(b"".join(packed[:2] + packed[3:])) == ()
    assert remarks(b"".join(packed)[:-90]) == ("R database, compressed: the build prefix stays",)


def test_utf_16_among_other_strings_of_a_binary_is_found() -> None:
    data = noise(301) + b"\1" + "word\0/opt/env\0more".encode("utf-16-le") + b"\0\0" + noise(100)
    assert remarks(data) == (f"UTF-16 text: the build prefix stays at byte {301 + 1 + 10}",)


def test_a_prefix_that_is_not_ascii_or_not_even_utf_8_is_searched_for_as_far_as_it_can_be() -> None:
    assert remarks("x=/opt/né/a".encode("utf-16-le"), aliases=("/opt/né".encode(),))
    assert remarks(gzip.compress(b"x=/opt/\xff/a"), aliases=(b"/opt/\xff",))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"a": "\\/opt\\/env\\/lib"}', "escaped string"),
        (b"file=file%3A%2F%2F%2Fopt%2Fenv%2Flib", "percent-encoded text"),
    ],
)
def test_encoded_mentions_are_reported_where_they_are_not_relocated(data: bytes, kind: str) -> None:
    (remark,) = remarks(b"\0" + data)
    assert remark.startswith(f"{kind}: the build prefix stays at byte ")
    assert remarks(data, relocated=True) == ()


@pytest.mark.parametrize("data", [b'"\\/opt\\/env2"', b"%2Fdata%2Fopt%2Fenv", b"%2Fopt%2Fenv.old"])
def test_other_paths_in_encoded_form_are_none(data: bytes) -> None:
    assert remarks(data) == ()


STREAMS = {
    "gzip file": gzip.compress,
    "zlib stream": zlib.compress,
    "bzip2 file": bz2.compress,
    "xz file": lambda data: lzma.compress(data, preset=0),
    "lzma file": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "zstandard file": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("kind", STREAMS)
def test_compressed_files_are_searched(kind: str) -> None:
    compress = STREAMS[kind]
    expected = (f"{kind}, compressed: the build prefix stays",)
    big = b"x" * 1_048_570 + TEXT + noise(5000)  # across the border of two pieces
    for data in (TEXT, big, tarred(TEXT)):
        assert remarks(compress(data)) == expected
    # what is short may stand there as it is
    for data in ("home=/opt/env".encode("utf-16-le"), b"=%2Fopt%2Fenv%2F" * 9):
        assert expected[0] in remarks(compress(data))
    assert remarks(compress(noise(1_100_000)) + compress(TEXT)) == expected
    assert remarks(compress(noise(1_100_000) + b"/opt/env2/x")) == ()
    assert remarks(compress(b"x" * ((1 << 20) - 8) + PREFIX + b"2" * 1_100_000)) == ()


@pytest.mark.parametrize("kind", STREAMS)
def test_damaged_files_are_searched_as_far_as_they_go(kind: str) -> None:
    whole = STREAMS[kind](TEXT * 20_000 + noise(200_000))
    for data in (whole[:100_000], whole + b"garbage", whole[:4] + noise(50), whole[:3]):
        remarks(data)
    if kind != "bzip2 file":  # its blocks are unpacked whole
        assert remarks(whole[:150_000]) != ()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_zip_archives_are_named(method: int) -> None:
    data = zipped({"a.txt": b"nothing", "META-INF/MANIFEST.MF": TEXT, "b/c": TEXT + noise(1_100_000)}, method)
    assert remarks(data) == ("zip archive, compressed META-INF/MANIFEST.MF, b/c: the build prefix stays",)
    many = zipped({f"m{number}": TEXT for number in range(9)}, method)
    assert remarks(many) == ("zip archive, compressed m0, m1, m2 and 6 more: the build prefix stays",)


def test_what_a_zip_archive_stores_as_it_is_is_left_to_the_plain_search() -> None:
    assert remarks(zipped({"a": TEXT}, zipfile.ZIP_STORED)) == ()


def test_archives_in_archives_are_opened_and_no_deeper_than_people_pack_them() -> None:
    wheel = zipped({"x/config.py": TEXT})
    conda = zipped({"pkg-x.tar.zst": STREAMS["zstandard file"](tarred(TEXT))}, zipfile.ZIP_STORED)
    assert remarks(zipped({"x.whl": wheel})) == ("zip archive, compressed x.whl: the build prefix stays",)
    assert remarks(conda) == ("zip archive, compressed pkg-x.tar.zst: the build prefix stays",)
    deep = zipped({"deeper.zip": zipped({"deep.zip": zipped({"x.whl": wheel})})})
    remarks(deep)


def test_zip_archives_behind_a_script_are_opened() -> None:
    assert remarks(zipped({"__main__.py": TEXT}, front=b"#!/usr/bin/env python3\n")) == (
        "zip archive, compressed __main__.py: the build prefix stays",
    )


def test_damaged_and_locked_zip_archives_are_no_error() -> None:
    data = zipped({"a": TEXT, "b": noise(1000)})
    for broken in (
        data[: len(data) // 2],
        data[:200] + noise(300) + data[500:],
        b"PK\x03\x04",
        b"PK\x03\x04" + noise(99),
    ):
        remarks(broken)
    directory = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    locked = bytearray(data)
    locked[directory + 8] |= 1
    assert remarks(bytes(locked)) == ()


def test_what_unpacks_to_more_than_the_limit_is_searched_in_part_and_said_so() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(LIMIT + (1 << 20)) + TEXT)
    found = ResidualSearch((PREFIX,))(bomb, relocated=False)
    assert found.cut and found.remarks == ()
    assert len(bomb) < LIMIT // 1000


def test_mapped_files_are_searched_like_those_in_memory(tmp_path: Path) -> None:
    for number, data in enumerate([zipped({"a": TEXT}), gzip.compress(TEXT), "/opt/env".encode("utf-16-be")]):
        place = tmp_path / str(number)
        place.write_bytes(data)
        with place.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert remarks(mapped) == remarks(data) != ()  # type: ignore[arg-type]


def test_databases_hold_the_prefix_in_plain_and_are_not_searched_here(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("create table t (path)")
        database.execute("insert into t values ('/opt/env/lib')")
    database.close()
    assert remarks((tmp_path / "x.db").read_bytes()) == ()


@pytest.mark.parametrize(
    ("path", "does"),
    [
        ("lib/jars/app.jar", True),
        ("share/app/data.db", True),
        ("lib/python3.11/site-packages/x/config.npz", True),
        ("lib/python3.11/ensurepip/_bundled/pip-24.0-py3-none-any.whl", False),
        ("share/doc/x/searchindex.js", False),
        ("lib/python3.11/site-packages/x/docs/html/searchindex.js", False),
        ("share/man/man1/x.1.gz", False),
        ("lib/__pycache__/x.cpython-36.pyc", False),
        ("lib/x.pyc", True),
    ],
)
def test_whether_it_matters_is_decided_by_rules(path: str, does: bool) -> None:
    assert matters(path) is does


def test_every_rule_has_its_reason_and_source() -> None:
    text = resources.files("envpack.prefix.relocate").joinpath("harmless.json").read_text(encoding="utf-8")
    for rule in json.loads(text)["rules"]:
        assert set(rule) == {"glob", "reason", "source"} and all(rule.values())
        assert translate(rule["glob"])


def test_one_short_part_stands_for_all_forms_of_a_path() -> None:
    aliases = (b"/home/u/environments/x", b"/mnt/home/environments/x")
    search = ResidualSearch(aliases)
    plain = [needle for needle in search.needles if b"\0" not in needle]
    assert {search.probes[needle] for needle in plain} == {b"environments"}
    assert all(search.probes[needle] in needle for needle in search.needles)


@pytest.mark.parametrize("alias", [b"/e", b"/opt/env", b"/opt/\xff", "/srv/données/é".encode(), b"/o/a b c d/%2F"])
def test_data_without_any_form_of_the_path_is_known_before_each_is_searched(alias: bytes) -> None:
    search = ResidualSearch((alias,))
    for needle in search.needles:
        assert not search.absent(b"before " + needle + b" behind")
    assert search.absent(b"nothing of it")
