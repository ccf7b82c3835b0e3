"""Headers of tar archives: what real programs write is read the same on every Python, and damage is named."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpack.interop.archive.members import read_members
from envpack.interop.archive.tar_headers import Header, is_header, read_headers
from envpack.runtime.errors import FormatError, IntegrityError
from support.hostile_bundles import block

END = bytes(1024)
PLAIN, LONG_NAME, PAX = (block(b"x", 0o644, 0, 0, kind) for kind in (b"0", b"L", b"x"))
LONG = "/".join(["n" * 60] * 3)  # more than a name field holds, and less than ustar's two
LONGER = "/".join(["n" * 100] * 5)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def read(data: bytes) -> list[tuple[Header, bytes]]:
    """Every member, with its data, of which every second one's is left for the reader to pass over."""
    stream = io.BytesIO(data)
    return [
        (header, stream.read(header.size) if at % 2 else b"") for at, header in enumerate(read_headers(stream))
    ]


def headers(data: bytes) -> list[Header]:
    return [header for header, _ in read(data)]


def in_blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extended(kind: bytes, data: bytes) -> bytes:
    return block(b"././@PaxHeader", 0o644, len(data), 0, kind) + in_blocks(data)


def pax(*records: tuple[str, str | bytes], kind: bytes = b"x") -> bytes:
    return extended(kind, b"".join(pax_record(key, value) for key, value in records))


def pax_record(key: str, value: str | bytes) -> bytes:
    text = b" %b=%b\n" % (key.encode(), value.encode() if isinstance(value, str) else value)
    length = len(text) + 1
    while len(b"%d" % length) + len(text) != length:
        length += 1
    return b"%d%b" % (length, text)


def change(position: int, new: bytes, header: bytes = PLAIN) -> bytes:
    """A header of an empty file ``x`` with other bytes somewhere, its checksum right."""
    changed = bytearray(header)
    changed[position : position + len(new)] = new
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


# --- what programs write ---


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, links and folders with names of every kind that an environment has."""
    root = tmp_path_factory.mktemp("tree")
    (root / LONG).parent.mkdir(parents=True)
    (root / "lib").mkdir()
    for name in ("lib/data", "lib/caf\u00e9", "lib/caf\udce9", LONG):
        (root / name).write_bytes(os.fsencode(name) * 100)
        os.utime(root / name, ns=(0, 1_700_000_001_987_654_321))
    (root / "lib/data").chmod(0o755)
    (root / "lib/again").hardlink_to(root / "lib/data")
    (root / "link").symlink_to("lib/data")
    return root


PROGRAMS = {
    "GNU tar, v7": ["tar", "--format=v7"],
    "GNU tar, oldgnu": ["tar", "--format=oldgnu"],
    "GNU tar, gnu": ["tar", "--format=gnu"],
    "GNU tar, ustar": ["tar", "--format=ustar"],
    "GNU tar, pax": ["tar", "--format=posix"],
    "GNU tar, with more times in the header": ["tar", "--format=gnu", "--incremental"],
    "bsdtar, v7": ["bsdtar", "--format=v7"],
    "bsdtar, ustar": ["bsdtar", "--format=ustar"],
    "bsdtar, pax": ["bsdtar", "--format=pax"],
    "bsdtar, gnu": ["bsdtar", "--format=gnutar"],
    "busybox": ["busybox", "tar"],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_other_programs_write_is_read(program: str, tree: Path, tmp_path: Path) -> None:
    command, archive = PROGRAMS[program], tmp_path / "a.tar"
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    everything = {os.fspath(path.relative_to(tree)) for path in tree.rglob("*")}
    expected, given = everything, ["."]
    if "--format=v7" in command:  # which has no room for long names
        expected, given = (
            {name for name in everything if not name.startswith("n")},
            [f"--exclude=./{'n' * 60}", "."],
        )
    if "--incremental" in command:  # which writes members of a kind of its own for folders
        expected = {name for name in everything if (tree / name).is_symlink() or not (tree / name).is_dir()}
        given = sorted(expected)
    done = subprocess.run([*command, "-cf", archive, *given], cwd=tree, capture_output=True)
    assert done.returncode == 0, done.stderr
    found = {member.path: (member, b"".join(data)) for member, data in read_members(archive, lambda amount: None)}
    assert set(found) == expected
    linked = [found[name][0] for name in ("lib/data", "lib/again") if found[name][0].type == "hardlink"]
    assert [{link.path, link.target} for link in linked] == [{"lib/data", "lib/again"}]
    for name, (member, data) in found.items():
        facts = (tree / name).lstat()
        if member.type == "symlink":
            assert member.target == "lib/data"
        elif member.type == "file":
            assert data == (tree / name).read_bytes()
            assert (member.mode, member.mtime) == (facts.st_mode & 0o777, 1_700_000_001)
        else:
            assert member.type == ("directory" if (tree / name).is_dir() else "hardlink")


NAMES = {
    "a short name": "lib/data",
    "a name of 100 bytes": "n" * 100,
    "a name for ustar's prefix": LONG,
    "a name no field holds": LONGER,
    "a name that is not ASCII": "lib/caf\u00e9",
    "a name that is not UTF-8": "lib/caf\udce9",
    "a long name that is not UTF-8": LONG + "\udce9",
    "a name with an equals sign and a line end": "lib/a=b\nc",
}
FIELDS: dict[str, dict[str, Any]] = {
    "nothing special": {},
    "large ids": {"uid": 1 << 30, "gid": 1 << 31, "uname": "caf\u00e9"},
    "a fraction of a second": {"mtime": 1_700_000_001.75},
    "a tiny time": {"mtime": 1e-05},
    "a time before 1970": {"mtime": -1.5},
    "a time beyond octal": {"mtime": 1 << 35},
    "a symlink": {"type": tarfile.SYMTYPE, "linkname": "data"},
    "a long symlink": {"type": tarfile.SYMTYPE, "linkname": LONGER},
    "a symlink that is not UTF-8": {"type": tarfile.SYMTYPE, "linkname": "caf\udce9"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "data"},
    "a folder": {"type": tarfile.DIRTYPE},
    "a contiguous file": {"type": tarfile.CONTTYPE},
    "an old file": {"type": tarfile.AREGTYPE},
}


def written(name: str, fields: dict[str, Any], format: int, data: bytes = b"data") -> bytes:
    """An archive by Python's ``tarfile`` of two members; raises ValueError for what a format can't say."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, encoding="utf-8") as archive:
        info = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(info, key, value)
        info.size = len(data) if info.isreg() else 0
        archive.addfile(info, io.BytesIO(data))
        archive.addfile(tarfile.TarInfo("behind"))
    return buffer.getvalue()


def agree(archive: bytes) -> None:
    types = {tarfile.SYMTYPE: "symlink", tarfile.LNKTYPE: "hardlink", tarfile.DIRTYPE: "directory"}
    with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as opened:
        infos = opened.getmembers()
    expected = [
        (
            info.name,
            types.get(info.type, "file"),
            info.mode,
            info.size,
            int(info.mtime),
            info.linkname if info.issym() or info.islnk() else "",
        )
        for info in infos
    ]
    found = [header._replace(path=header.path.rstrip("/")) for header in headers(archive)]
    assert list(map(tuple, found)) == expected


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", FIELDS)
def test_what_python_writes_is_read(format: str, name: str, fields: str) -> None:
    try:
        archive = written(NAMES[name], FIELDS[fields], FORMATS[format])
    except ValueError as problem:
        assert format == "ustar", problem
        return
    agree(archive)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
paths = names.map(lambda name: name.strip("/")).filter(lambda name: bool(name) and len(name.encode()) < 400)
fields = st.fixed_dictionaries(
    {"mode": st.integers(0, 0o7777), "uid": st.integers(0, 1 << 40), "uname": st.text("aé", max_size=40)},
    optional={
        "mtime": st.integers(-(1 << 40), 1 << 40) | st.floats(-1e12, 1e12),
        "type": st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
        "linkname": paths,
    },
)


@given(paths, fields, st.sampled_from(sorted(FORMATS)), st.binary(max_size=1100))
def test_it_agrees_with_python_on_what_python_writes(
    name: str, fields: dict[str, Any], format: str, data: bytes
) -> None:
    try:
        archive = written(name, fields, FORMATS[format], data)
    except ValueError:
        return
    agree(archive)


@given(st.binary(max_size=600), st.integers(0, 3000), st.integers(0, 3000))
def test_whatever_is_damaged_nothing_but_an_error_of_envpack_comes_of_it(new: bytes, at: int, end: int) -> None:
    whole = written(LONGER, {"mtime": 1.5}, tarfile.PAX_FORMAT)
    damaged = bytearray(whole)
    damaged[at:at] = new
    damaged[1024 : 1024 + len(new)] = new  # in the records, which no checksum holds
    for archive in (bytes(damaged), whole[:end]):
        with suppress(IntegrityError):
            headers(archive)


# --- numbers, names and kinds ---


@pytest.mark.parametrize(
    ("field", "size"),
    [
        (b"00000000010\0", 8),
        (b"00000000010 ", 8),
        (b"       10 \0\0", 8),
        (b"777777777777", 8**12 - 1),
        (b" " * 12, 0),
        (bytes(12), 0),
        (b"\x80" + (1 << 33).to_bytes(11, "big"), 1 << 33),
    ],
)
def test_numbers_of_every_kind_are_read(field: bytes, size: int) -> None:
    stream = io.BytesIO(change(124, field) + b"never read")
    assert next(read_headers(stream)).size == size


def test_checksums_of_signed_bytes_are_right_too() -> None:
    name = "caf\u00e9".encode()
    changed = bytearray(block(name, 0o644, 0, 0, b"0"))
    total = sum(changed) - sum(changed[148:156]) + 8 * 32
    changed[148:156] = b"%06o\0 " % (total - 2 * 256)
    assert headers(bytes(changed) + END)[0].path == "caf\u00e9"
    changed[148:156] = b"%06o\0 " % (total - 256)
    assert not is_header(bytes(changed))


def test_a_prefix_counts_in_posix_headers_only() -> None:
    for mark, path in ((b"ustar\x0000", "lib/x"), (b"ustar  \0", "x"), (bytes(8), "x")):
        assert headers(change(345, b"lib", change(257, mark)) + END)[0].path == path


def test_a_folder_of_v7_is_recognised_by_its_slash() -> None:
    folder = block(b"lib/", 0o755, 0, 0, b"\0")
    assert [header.type for header in headers(folder + END)] == ["directory"]


def test_a_hard_link_has_the_data_that_it_states() -> None:
    linked = block(b"y", 0o644, 4, 0, b"1", b"x") + in_blocks(b"data")
    (_, _), (header, data) = read(PLAIN + linked + END)
    assert (header.type, header.target, data) == ("hardlink", "x", b"data")


@pytest.mark.parametrize("kind", [b"2", b"5"])
def test_links_and_folders_have_no_data_whatever_they_state(kind: bytes) -> None:
    found = headers(block(b"y", 0o644, 4096, 0, kind, b"x") + PLAIN + END)
    assert [(header.path, header.size) for header in found] == [("y", 0), ("x", 0)]


def test_the_size_of_pax_counts_for_the_data() -> None:
    data = pax(("size", "4")) + PLAIN + in_blocks(b"data") + PLAIN + END
    assert [header.size for header in headers(data)] == [4, 0]


@pytest.mark.parametrize(
    "records",
    [
        [("comment", "x")],
        [("hdrcharset", "BINARY"), ("path", b"x")],
        [("hdrcharset", "ISO-IR 10646 2000 UTF-8")],
        [("SCHILY.xattr.security.selinux", b"system_u:object_r\0")],
        [("LIBARCHIVE.creationtime", "1.5"), ("atime", "1.5"), ("ctime", "nothing"), ("uid", "-1")],
        [("path", "wrong"), ("path", "x")],
        [],
    ],
)
def test_what_else_pax_states_does_no_harm(records: list[tuple[str, str | bytes]]) -> None:
    assert headers(pax(*records) + PLAIN + END) == headers(PLAIN + END)


def test_a_global_header_holds_until_the_next_and_for_what_states_nothing_itself() -> None:
    first, second = pax(("mtime", "1.5"), kind=b"g"), pax(("mtime", "7"), ("comment", "x"), kind=b"g")
    data = first + PLAIN + pax(("mtime", "3")) + PLAIN + PLAIN + second + PLAIN + END
    assert [header.mtime for header in headers(data)] == [1, 3, 1, 7]


def test_both_long_names_may_precede_a_member() -> None:
    for kinds in (b"KL", b"LK"):
        long = b"".join(extended(bytes([kind]), b"%c" % kind * 300 + b"\0") for kind in kinds)
        (header,) = headers(long + block(b"x", 0o777, 0, 0, b"2", b"y") + END)
        assert (header.path, header.target) == ("L" * 300, "K" * 300)


# --- damage ---

HUGE = b"\x80" + (5 << 40).to_bytes(11, "big")
NEGATIVE = b"\xff" * 11 + b"\x00"
IMMENSE = b"\x80" + b"\xff" * 11
DAMAGED: dict[str, tuple[str, bytes]] = {
    "nothing": ("marker is missing", b""),
    "no end": ("marker is missing", PLAIN),
    "half an end": ("marker is incomplete", PLAIN + bytes(512)),
    "a header cut short": ("marker is missing", PLAIN + PLAIN[:300]),
    "a wrong byte in a header": ("bad checksum", PLAIN + b"y" + PLAIN[1:] + END),
    "a checksum of no digits": ("bad checksum", PLAIN[:148] + b"-0o4711 " + PLAIN[156:] + END),
    "no checksum": ("bad checksum", PLAIN[:148] + bytes(8) + PLAIN[156:] + END),
    "text": ("bad checksum", PLAIN + b"a" * 512 + END),
    "a wrong byte behind a pax header": ("bad checksum", pax(("mtime", "1.5")) + b"y" + PLAIN[1:] + END),
    "a wrong byte behind a long name": ("bad checksum", extended(b"L", b"name\0") + b"y" + PLAIN[1:] + END),
    "data cut short": ("marker is missing", block(b"x", 0o644, 4096, 0, b"0") + bytes(100)),
    "a size with a sign": ("is not a number", change(124, b"-0000000010\0") + END),
    "a size as Python writes octal": ("is not a number", change(124, b"0o000000010\0") + END),
    "a size with underscores": ("is not a number", change(124, b"0000_000_10\0") + END),
    "a size that goes on behind its end": ("is not a number", change(124, b"0000\0000010\0") + END),
    "a negative size": ("invalid size", change(124, NEGATIVE) + END),
    "an immense size": ("invalid size", change(124, IMMENSE) + END),
    "an immense time": ("invalid time", change(136, b"\x80" + b"\x70" * 11) + END),
    "a folder of v7 with data": ("directory with data", block(b"lib/", 0o755, 4, 0, b"\0") + bytes(512) + END),
    # further headers
    "a long name of terabytes": ("invalid size", change(124, HUGE, LONG_NAME) + END),
    "a long name cut short": ("truncated within a header", extended(b"L", b"n" * 2000)[:1024]),
    "a long name twice": ("two extended headers", extended(b"L", b"a\0") * 2 + PLAIN + END),
    "two pax headers": ("two extended headers", pax(("mtime", "1")) + pax(("comment", "x")) + PLAIN + END),
    "a name by GNU and by pax": ("two extended", extended(b"L", b"a\0") + pax(("path", "b")) + PLAIN + END),
    "no member behind a pax header": ("no member after", PLAIN + pax(("path", "y")) + END),
    "no member behind a long name": ("no member after", PLAIN + extended(b"K", b"y\0") + END),
    "a pax header as the last": ("marker is missing", PLAIN + pax(("path", "y"))),
    "pax headers of terabytes": ("invalid size", change(124, HUGE, PAX) + END),
    "pax headers of a negative size": ("invalid size", change(124, NEGATIVE, PAX) + END),
    # what pax states
    "a size of terabytes in pax": ("marker is missing", pax(("size", str(5 << 40))) + PLAIN + END),
    "a size beyond 64 bits in pax": ("invalid size", pax(("size", str(1 << 63))) + PLAIN + END),
    "a negative size in pax": ("invalid size", pax(("size", "-1")) + PLAIN + END),
    "a size that is no number in pax": ("invalid size", pax(("size", "1e3")) + PLAIN + END),
    "an empty size in pax": ("invalid size", pax(("size", "")) + PLAIN + END),
    "a size with a NUL in pax": ("invalid size", pax(("size", "4\0")) + PLAIN + END),
    "a size of 5,000 digits in pax": ("invalid size", pax(("size", "9" * 5000)) + PLAIN + END),
    "a size in other digits in pax": ("invalid size", pax(("size", "\u0664")) + PLAIN + END),
    "a time that is no number in pax": ("invalid time", pax(("mtime", "nan")) + PLAIN + END),
    "an endless time in pax": ("invalid time", pax(("mtime", "1e999")) + PLAIN + END),
    "an immense time in pax": ("invalid time", pax(("mtime", "1e40")) + PLAIN + END),
    "a sparse file of GNU's": ("a sparse file", pax(("GNU.sparse.major", "1")) + PLAIN + END),
    "a sparse file of Solaris": ("a sparse file", pax(("SUN.holesdata", " 0 1")) + PLAIN + END),
    "a sparse file of star's": ("a sparse file", pax(("SCHILY.realsize", "9")) + PLAIN + END),
    "a name for all members": ("name or size of every", pax(("path", "y"), kind=b"g") + PLAIN + END),
    "a size for all members": ("name or size of every", pax(("size", "0"), kind=b"g") + PLAIN + END),
    # the records of pax
    "a record without a length": ("are invalid", extended(b"x", b"path=y\n") + PLAIN + END),
    "a record of no length": ("are invalid", extended(b"x", b"0 path=y\n") + PLAIN + END),
    "a record with a sign": ("are invalid", extended(b"x", b"+9 path=y\n") + PLAIN + END),
    "a record with a zero before its length": ("are invalid", extended(b"x", b"010 path=y\n") + PLAIN + END),
    "a record shorter than its keyword": ("are invalid", extended(b"x", b"5 path=y\n") + PLAIN + END),
    "a record that is too short by one": ("are invalid", extended(b"x", b"8 path=y\n") + PLAIN + END),
    "a record that is too long by one": ("are invalid", extended(b"x", b"11 path=y\n") + PLAIN + END),
    "a record beyond the header": ("are invalid", extended(b"x", b"9999 path=y\n") + PLAIN + END),
    "a record of 5,000 digits": ("are invalid", extended(b"x", b"9" * 5000 + b" path=y\n") + PLAIN + END),
    "a record without a keyword": ("are invalid", extended(b"x", b"5 =y\n") + PLAIN + END),
    "a record without an equals sign": ("are invalid", extended(b"x", b"9 path y\n") + PLAIN + END),
    "a record without a line end": ("are invalid", extended(b"x", b"9 path=yy") + PLAIN + END),
    "NULs behind the records": ("are invalid", extended(b"x", b"9 path=y\n\0\0\0") + PLAIN + END),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_damage_is_named(what: str) -> None:
    match, data = DAMAGED[what]
    with pytest.raises(IntegrityError, match=match):
        headers(data)


KINDS = {b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file", b"V": "unknown type b'V'"}


@pytest.mark.parametrize("kind", [*KINDS, b"M", b"D", b"N", b" "])
def test_kinds_that_no_environment_has_are_refused(kind: bytes) -> None:
    with pytest.raises(IntegrityError, match=KINDS.get(kind, "unknown type")):
        headers(block(b"x", 0o644, 0, 0, kind) + END)


def test_an_archive_that_begins_with_damage_is_called_none(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"y" + PLAIN[1:] + END)
    with pytest.raises(FormatError, match="neither a bundle nor an archive"):
        list(read_members(tmp_path / "a.tar", lambda amount: None))


def test_a_million_global_headers_take_no_memory() -> None:
    one = pax(("comment", "x" * 400), ("mtime", "1"), kind=b"g")
    assert len(headers(one * 20_000 + PLAIN + END)) == 1


def test_names_are_handed_on_as_they_stand() -> None:
    """They are checked when the whole archive is known."""
    for path in ("../x", "/x", "a\0b", "lib//x", ""):
        assert headers(pax(("path", path)) + PLAIN + END)[0].path == path
