"""Entries of zip archives: what real programs write is read the same on every Python, and damage is named."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack.interop.archive.members import read_members
from envpack.interop.archive.zip_entries import read_data, read_entries
from envpack.runtime.errors import IntegrityError

TEXT = bytes(range(256)) * 300


def read(data: bytes) -> dict[str, bytes]:
    file = io.BytesIO(data)
    return {entry.path: b"".join(read_data(file, entry)) for entry in read_entries(file)}


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.comment = comment
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


@cache
def many() -> bytes:
    """An archive of more files than its end has room to count: it has zip64's."""
    return zipped(*((str(number), b"") for number in range(65_540)), method=zipfile.ZIP_STORED)


LOCAL, CENTRAL, FINISH = b"PK\3\4", b"PK\1\2", b"PK\5\6"
PLAIN = zipped(("a", TEXT), ("lib/b", b"second"))


# --- what programs write ---


@given(
    st.dictionaries(st.text("aé/\\ \n", min_size=1, max_size=9), st.binary(max_size=3000)),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
    st.binary(max_size=100).filter(lambda comment: b"PK" not in comment),
)
def test_it_agrees_with_python_on_what_python_writes(
    members: dict[str, bytes], method: int, comment: bytes
) -> None:
    archive = zipped(*members.items(), method=method, comment=comment)
    file = io.BytesIO(archive)
    found = read_entries(file)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        infos = opened.infolist()
    assert [(entry.path, entry.size, entry.stored, entry.crc, entry.date) for entry in found] == [
        (info.filename, info.file_size, info.compress_size, info.CRC, info.date_time) for info in infos
    ]
    assert [b"".join(read_data(file, entry)) for entry in found] == list(members.values())


@pytest.mark.parametrize("options", ["-y", "-y -0", "-y -fz", "-y -UN=Escape"])
def test_what_info_zip_writes_is_read(options: str, tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    tree = tmp_path / "tree"
    (tree / "lib").mkdir(parents=True)
    (tree / "lib/caf\u00e9").write_bytes(TEXT)
    (tree / "tool").write_bytes(b"#!")
    (tree / "tool").chmod(0o755)
    (tree / "link").symlink_to("tool")
    command = ["zip", "-qr", *options.split(), "../a.zip", "."]
    subprocess.run(command, cwd=tree, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    members = {member.path: (member, b"".join(data)) for member, data in read_members(tmp_path / "a.zip", print)}
    assert members["tool"][0].mode == 0o755 and members["tool"][1] == b"#!"
    assert (members["link"][0].type, members["link"][0].target) == ("symlink", "tool")
    assert members["lib"][0].type == "directory"
    assert members["lib/caf\u00e9"][1] == TEXT


def test_a_stream_has_the_sizes_behind_the_data() -> None:
    class Pipe(io.RawIOBase):
        data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        archive.writestr("a", TEXT)
        archive.writestr("b", b"second")
    assert read(pipe.data) == {"a": TEXT, "b": b"second"}


def test_zip64_is_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(TEXT)
    assert read(buffer.getvalue()) == {"a": TEXT}
    assert b"PK\6\6" in many()
    assert len(read_entries(io.BytesIO(many()))) == 65_540


def test_sizes_and_places_of_zip64_are_read() -> None:
    """An archive of more than 4 GiB has these fields."""
    data = with_extra(1, struct.pack("<QQQ", len(TEXT), len(TEXT), 0), stored=True)
    changed = bytearray(data)
    at = data.rindex(b"PK\1\2")
    changed[at + 20 : at + 28], changed[at + 42 : at + 46] = b"\xff" * 8, b"\xff" * 4
    assert read(bytes(changed)) == {"a": TEXT}


def with_extra(key: int, extra: bytes, stored: bool = False, size: int | None = None) -> bytes:
    """An archive of one file with an extra field in the directory."""
    plain = zipped(("a", TEXT), method=zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED)
    start, end = plain.rindex(b"PK\1\2"), plain.rindex(b"PK\5\6")
    field = struct.pack("<HH", key, len(extra) if size is None else size) + extra
    entry = bytearray(plain[start:end] + field)
    entry[30:32] = struct.pack("<H", len(field))
    finish = bytearray(plain[end:])
    finish[12:16] = struct.pack("<L", len(entry))
    return plain[:start] + bytes(entry) + bytes(finish)


def test_the_name_in_unicode_counts_where_it_belongs_to_the_name() -> None:
    for crc, path in ((zlib.crc32(b"a"), "caf\u00e9"), (7, "a")):
        assert read(with_extra(0x7075, b"\1" + struct.pack("<L", crc) + "caf\u00e9".encode())) == {path: TEXT}


@pytest.mark.parametrize(("system", "path"), [(0, "lib/\u00e9"), (3, "lib/\udc82")])
def test_names_without_a_mark_are_of_code_page_437_or_as_unix_has_them(system: int, path: str) -> None:
    data = bytearray(PLAIN.replace(b"lib/b", b"lib/\x82"))
    put(CENTRAL, 5, bytes([system]), last=True)(data)
    assert list(read(bytes(data))) == ["a", path]


def test_a_name_with_a_nul_is_whole() -> None:
    assert list(read(PLAIN.replace(b"lib/b", b"lib\0b"))) == ["a", "lib\0b"]


def test_what_unpacks_to_much_comes_in_pieces() -> None:
    file = io.BytesIO(zipped(("zeros", bytes(40 << 20))))
    (entry,) = read_entries(file)
    sizes = [len(piece) for piece in read_data(file, entry)]
    assert (sum(sizes), max(sizes)) == (40 << 20, 1 << 20)


# --- damage ---

Change = Callable[[bytearray], object]


def put(mark: bytes, at: int, new: bytes, last: bool = False) -> Change:
    """Other bytes in the first record with a signature, or in the last one; no data has a signature in it."""

    def change(data: bytearray) -> None:
        start = (data.rindex if last else data.index)(mark) + at
        data[start : start + len(new)] = new

    return change


def both(local: int, new: bytes) -> Change:
    """Other bytes in the first local header, and in the entry for it: fields there stand two bytes further on."""
    return lambda data: (put(LOCAL, local, new)(data), put(CENTRAL, local + 2, new)(data))


def unmarked(data: bytearray) -> None:
    """A name of another encoding than its mark says."""
    both(6, b"\0\x08")(data)
    put(CENTRAL, 46, b"\xff")(data)


DAMAGED: dict[str, tuple[str, Change]] = {
    # the end
    "no end": ("directory is missing", lambda data: data.__delitem__(slice(data.index(FINISH), None))),
    "half an end": ("directory is missing", lambda data: data.__delitem__(slice(-5, None))),
    "more behind the end": ("at the wrong position", lambda data: data.extend(b"more")),
    "more before the start": ("at the wrong position", lambda data: data.__setitem__(slice(0, 0), b"more")),
    "a directory elsewhere": ("at the wrong position", put(FINISH, 16, b"\0\0\0\0")),
    "a directory of another size": ("at the wrong position", put(FINISH, 12, b"\1\0\0\0")),
    "more entries than stated": ("states 1", put(FINISH, 8, b"\1\0\1\0")),
    "fewer entries than stated": ("states 3", put(FINISH, 8, b"\3\0\3\0")),
    "one part of several": ("one part of a split archive", put(FINISH, 4, b"\1\0")),
    "zip64's locator without a record": (
        "end record of zip64",
        lambda data: data.__setitem__(slice(data.index(FINISH), data.index(FINISH)), b"PK\6\7" + bytes(16)),
    ),
    # the directory
    "an entry without its signature": ("is invalid", put(CENTRAL, 0, b"XX", last=True)),
    "an entry with a longer name": ("truncated", put(CENTRAL, 28, b"\xff\xff", last=True)),
    "an entry with more extra fields": ("truncated", put(CENTRAL, 30, b"\xff\0", last=True)),
    "an entry without zip64's field": ("zip64 field of an entry", put(CENTRAL, 20, b"\xff\xff\xff\xff")),
    "a name that is no UTF-8": ("not UTF-8", unmarked),
    # entries that share bytes, as in a bomb
    "two entries of the same data": ("overlaps the next entry", put(CENTRAL, 42, b"\0\0\0\0", last=True)),
    "an entry within another": ("overlaps the next entry", put(CENTRAL, 42, b"\x20\0\0\0", last=True)),
    "an entry behind the directory": ("overlaps the next entry", put(CENTRAL, 42, b"\xfe\xff\xff\xff", last=True)),
    "more data than there is room for": ("overlaps the next entry", put(CENTRAL, 20, b"\xff\xff\xff\0")),
    "more before the data than there is room for": ("overlaps the next entry", put(LOCAL, 28, b"\xff\xff")),
    # local headers
    "no local header": ("has no header", put(LOCAL, 0, b"XX")),
    "another name": ("contradicts", put(LOCAL, 30, b"b")),
    "a longer name": ("contradicts", put(LOCAL, 26, b"\2\0")),
    "another method": ("contradicts", put(LOCAL, 8, b"\0\0")),
    "another checksum": ("contradicts", put(LOCAL, 14, b"abcd")),
    "another size": ("contradicts", put(LOCAL, 22, b"\0\0\0\0")),
    "another size in the archive": ("contradicts", put(LOCAL, 18, b"\0\0\0\0")),
    "a local header of an encrypted file": ("contradicts", put(LOCAL, 6, b"\1\0")),
    # the data
    "an encrypted file": ("encrypted", put(CENTRAL, 8, b"\1\0")),
    "an unknown method": ("unknown method 93", both(8, b"\x5d")),
    "damaged data": ("damaged", put(LOCAL, 60, b"\0\0\0\0\0\0")),
    "a wrong checksum": ("checksum of 'a'", both(14, b"abcd")),
    "less than stated": ("not have the stated size", both(22, b"\0\0\2\0")),
    "more than stated": ("not have the stated size", both(22, b"\0\2\0\0")),
    "data that ends early": ("at the wrong position|damaged", both(18, b"\x10\0\0\0")),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_named(what: str) -> None:
    match, change = DAMAGED[what]
    data = bytearray(PLAIN)
    change(data)
    with pytest.raises(IntegrityError, match=match):
        read(bytes(data))


@pytest.mark.parametrize(
    ("key", "extra", "size", "match"),
    [
        (1, b"", 9, "fields of an entry are invalid"),
        (7, b"\7\0\0\0" * 2, 0, "fields of an entry are invalid"),
        (7, b"\7\0", 0, "fields of an entry are invalid"),
    ],
)
def test_extra_fields_have_to_be_well_formed(key: int, extra: bytes, size: int, match: str) -> None:
    with pytest.raises(IntegrityError, match=match):
        read(with_extra(key, extra, size=size))


def test_zip64_may_not_contradict_the_other_end() -> None:
    changed = bytearray(many())
    put(FINISH, 10, b"\1\0", last=True)(changed)
    with pytest.raises(IntegrityError, match="contradict each other"):
        read_entries(io.BytesIO(changed))
    changed = bytearray(many())
    put(b"PK\6\6", 4, b"\x7f", last=True)(changed)
    with pytest.raises(IntegrityError, match="end record of zip64 is at the wrong position"):
        read_entries(io.BytesIO(changed))


@given(st.integers(0, len(PLAIN) - 1), st.binary(min_size=1, max_size=60), st.booleans())
def test_whatever_is_damaged_nothing_but_an_error_of_envpack_comes_of_it(at: int, new: bytes, more: bool) -> None:
    data = bytearray(PLAIN)
    data[at : at if more else at + len(new)] = new
    with suppress(IntegrityError):
        read(bytes(data))
