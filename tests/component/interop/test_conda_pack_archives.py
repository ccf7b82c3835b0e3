"""Archives of other tools that are hostile, damaged or no archives: refused, with nothing left anywhere."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from envpack.interop.detect import is_archive
from envpack.interop.inspect import inspect_archive
from envpack.runtime.errors import EnvpackError, FormatError, HostError, IntegrityError, RelocationError
from envpack.runtime.report import Reporter
from support.conda_pack_archives import (
    BUILD_PREFIX,
    ENVIRONMENT,
    Add,
    deployed,
    file,
    link,
    member,
    record,
    tar,
    unpack_script,
    zipped,
)


def test_a_small_archive_deploys(tmp_path: Path) -> None:
    done = deployed(tar(tmp_path / "demo.tar.gz"), tmp_path / "x")
    assert (tmp_path / "x/bin/tool").read_text() == f"#!/bin/sh\necho {tmp_path}/x\n"
    assert (done.name, done.made_by, done.repairs) == ("demo", "conda-pack 0.9.2", ())


# --- hostile ---


def pax(**headers: str) -> Add:
    return file("x", b"owned", pax_headers=headers)


def raw(change: Callable[[bytearray], None]) -> Add:
    """A header block changed by hand, its checksum right."""

    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("x")
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        change(block)
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        assert archive.fileobj is not None
        archive.fileobj.write(block)
        archive.offset += len(block)

    return add


def with_size(kind: bytes, size: bytes) -> Add:
    def change(block: bytearray) -> None:
        block[156:157], block[124:136] = kind, size

    return raw(change)


def behind(extended: bytes, data: bytes) -> Add:
    """The data of an extended header, and a header with a wrong checksum behind it."""

    def add(archive: tarfile.TarFile) -> None:
        file("x", data, type=extended)(archive)
        damaged = b"y" + tarfile.TarInfo("x").tobuf()[1:]
        assert archive.fileobj is not None
        archive.fileobj.write(damaged)
        archive.offset += len(damaged)

    return add


NEGATIVE = b"\xff" * 11 + b"\x00"
HUGE = b"\x80" + (1 << 40).to_bytes(11, "big")

HOSTILE: dict[str, tuple[str, tuple[Add, ...]]] = {
    "an absolute path": ("unsafe path", (file("/x"),)),
    "a path that climbs out": ("unsafe path", (file("../x"),)),
    "a path that climbs out on the way": ("unsafe path", (file("lib/../../x"),)),
    "a path with an empty part": ("unsafe path", (file("lib//x"),)),
    "a path of dots": ("unsafe path", (file("lib/.."),)),
    "a path that pax states": ("unsafe path", (pax(path="../x"),)),
    "an absolute path that pax states": ("unsafe path", (pax(path="/x"),)),
    "a NUL in a path": ("unsafe path", (pax(path="a\0b"),)),
    "a file for the root": ("is not a directory", (file("./"),)),
    "a link that climbs out": ("target outside", (link("lib/x", "../../x"),)),
    "a link to an absolute path": ("target outside", (link("lib/x", "/etc/passwd"),)),
    "a link to nothing": ("target outside", (link("lib/x", ""),)),
    "a link that climbs out through another": ("target outside", (link("lib/d", ".."), link("e", "lib/d/../.."))),
    "a file through a link": ("is below", (link("lib/d", "../share"), file("lib/d/x"))),
    "a folder through a link": ("is below", (link("d", "lib"), member("d/x", tarfile.DIRTYPE))),
    "a link through a link": ("is below", (link("d", "lib"), link("d/x", "data"))),
    "a hard link to an absolute path": ("unsafe path", (member("x", tarfile.LNKTYPE, "/etc/passwd"),)),
    "a hard link that climbs out": ("unsafe path", (member("x", tarfile.LNKTYPE, "../x"),)),
    "a hard link to nothing": ("is not a file", (member("x", tarfile.LNKTYPE, "lib/none"),)),
    "a hard link to a link": ("is not a file", (link("l", "lib/data"), member("x", tarfile.LNKTYPE, "l"))),
    "a hard link to a folder": ("is not a file", (member("x", tarfile.LNKTYPE, "lib"),)),
    "a path as deep as no bundle has": ("a path of 1,?001 parts", (file("d/" * 1000 + "x"),)),
    "folders as deep as no bundle has": ("a path of 129 parts", (member("d/" * 129, tarfile.DIRTYPE),)),
    "a path of half a megabyte": ("a path of 260,?001 parts", (pax(path="a/" * 260_000 + "f"),)),
    "a name of 300 bytes": ("a name of 300 bytes", (file("lib/" + "n" * 300),)),
    "a link to a path that is too long": ("a path of", (link("l", "./" * 2000 + "lib"),)),
    "a character device": ("a device", (member("x", tarfile.CHRTYPE, devmajor=1, devminor=3),)),
    "a block device": ("a device", (member("x", tarfile.BLKTYPE),)),
    "a pipe": ("a pipe", (member("x", tarfile.FIFOTYPE),)),
    "a sparse file": ("a sparse file", (member("x", tarfile.GNUTYPE_SPARSE),)),
    "a member of an unknown type": ("unknown type", (member("x", b"V"),)),
    "a file twice, of no two packages": ("twice", (file("lib/data", b"other"),)),
    "a file over a link": ("twice", (link("x", "lib/data"), file("x", b"owned"))),
    "a link over a file": ("twice", (link("lib/data", "../bin/tool"),)),
    "a link twice, to two places": ("twice", (link("x", "lib"), link("x", "bin"))),
    "a file over a folder": ("twice", (file("lib"),)),
    "a folder over a file": ("twice", (member("lib/data", tarfile.DIRTYPE),)),
    "a file below a file": ("is below", (file("lib/data/x"),)),
    "a negative size": ("invalid size", (with_size(b"0", NEGATIVE),)),
    "a name of a terabyte": ("invalid size", (with_size(b"L", HUGE),)),
    "pax headers of a terabyte": ("invalid size", (with_size(b"x", HUGE),)),
    "a file of a terabyte": ("truncated", (with_size(b"0", HUGE),)),
    "a file of terabytes, by pax": ("truncated within", (pax(size=str(5 << 40)),)),
    "a link of terabytes, by pax": (
        "truncated",
        (member("x", tarfile.LNKTYPE, "y", pax_headers={"size": "9" * 13}),),
    ),
    "a file beyond 64 bits, by pax": ("invalid size", (pax(size=str(1 << 63)),)),
    "a negative size, by pax": ("invalid size", (pax(size="-1"),)),
    "a size that is no number, by pax": ("invalid size", (pax(size="many"),)),
    "a sparse file, by pax": ("a sparse file", (pax(**{"GNU.sparse.realsize": "1"}),)),
    "a NUL in a link": ("invalid target", (member("x", tarfile.SYMTYPE, pax_headers={"linkpath": "a\0b"}),)),
    "pax headers without end": ("two extended headers", (with_size(b"x", b"00000000000\0"),) * 3000),
    "long names without end": ("two extended headers", (with_size(b"L", b"00000000000\0"),) * 3000),
    "pax records that go beyond it": ("pax header are invalid", (file("x", b"99 path=x\n", type=b"x"), file("y"))),
    "pax records of no length": ("pax header are invalid", (file("x", b"0 path=x\n", type=b"x"), file("y"))),
    "damage behind a pax header": ("bad checksum", (behind(b"x", b"9 path=y\n"),)),
    "damage behind a global pax header": ("bad checksum", (behind(b"g", b"11 a.b.c=y\n"),)),
    "damage behind a long name": ("bad checksum", (behind(b"L", b"y\0"),)),
    "a name for all that follows": ("of every member", (file("x", b"9 path=y\n", type=b"g"), file("y"))),
}


@pytest.fixture
def nothing_left(tmp_path: Path) -> Path:
    """A folder for the archive, and one to deploy into in which nothing may appear."""
    (tmp_path / "envs").mkdir()
    return tmp_path


def refused(archive: Path, folder: Path, match: str, error: type[EnvpackError] = IntegrityError) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(error, match=match):
        deployed(archive, folder / "envs/x")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_tar_is_refused(what: str, nothing_left: Path) -> None:
    match, members = HOSTILE[what]
    refused(tar(nothing_left / "demo.tar.gz", *members), nothing_left, match)


def zip_info(path: str, mode: int, flags: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path)
    info.external_attr, info.create_system, info.flag_bits = mode << 16, 3, flags
    return info


HOSTILE_ZIPS = {
    "an absolute path": ("unsafe path", (("/x", b"owned"),)),
    "a path that climbs out": ("unsafe path", (("lib/../../x", b"owned"),)),
    "a link that climbs out": ("target outside", ((zip_info("l", 0o120777), b"../x"),)),
    "a link to an absolute path": ("target outside", ((zip_info("l", 0o120777), b"/etc/passwd"),)),
    "a file through a link": ("is below", ((zip_info("l", 0o120777), b"lib"), ("l/x", b"owned"))),
    "a pipe": ("neither a file", ((zip_info("x", 0o010644), b""),)),
    "a device": ("neither a file", ((zip_info("x", 0o020644), b""),)),
    "a file twice": ("twice", (("lib/a", b"1"), ("lib/a", b"2"))),
}


@pytest.mark.parametrize("what", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(what: str, nothing_left: Path) -> None:
    match, members = HOSTILE_ZIPS[what]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's, of duplicate names
        archive = zipped(nothing_left / "demo.zip", *members)
    refused(archive, nothing_left, match)


def test_an_encrypted_zip_is_refused(nothing_left: Path) -> None:
    archive = zipped(nothing_left / "demo.zip", ("secret", b"data"))
    data = bytearray(archive.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1  # the flag in the central directory
    archive.write_bytes(data)
    refused(archive, nothing_left, "encrypted")


def test_a_zip_whose_files_share_their_bytes_is_refused(nothing_left: Path) -> None:
    """Such a bomb is below all limits for stored bytes."""
    archive = zipped(nothing_left / "demo.zip", ("lib/a", b"data"), ("lib/b", b"data"))
    data = bytearray(archive.read_bytes())
    first, second = (data.index(name, data.index(b"PK\1\2")) - 46 for name in (b"lib/a", b"lib/b"))
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    archive.write_bytes(data)
    refused(archive, nothing_left, "damaged: 'lib/[ab]' overlaps the next entry")


@pytest.mark.parametrize("name", [b"lib/a\0b", b"\0ib/a.b", b"lib/a.b\0"])
def test_a_zip_with_a_nul_in_a_name_is_refused(name: bytes, nothing_left: Path) -> None:
    archive = zipped(nothing_left / "demo.zip", ("n" * len(name), b"data"))
    archive.write_bytes(archive.read_bytes().replace(b"n" * len(name), name))
    refused(archive, nothing_left, "unsafe path")


def test_a_zip_that_contradicts_itself_is_refused(nothing_left: Path) -> None:
    archive = zipped(nothing_left / "demo.zip", ("lib/a", b"data"))
    archive.write_bytes(archive.read_bytes().replace(b"lib/a", b"lib/b", 1))
    refused(archive, nothing_left, "the header of 'lib/a' contradicts")


@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.tar.bz2", "bomb.tar.xz", "bomb.tar.zst", "bomb.zip"])
def test_a_bomb_is_refused_before_it_fills_the_disk(
    name: str, nothing_left: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envpack.interop.archive.decompression.ALWAYS_ALLOWED", 1 << 20)
    zeros = bytes(16 << 20)
    archive = nothing_left / name
    if name.endswith(".zip"):
        zipped(archive, ("zeros", zeros))
    else:
        plain = tar(nothing_left / "plain.tar", file("zeros", zeros), codec="").read_bytes()
        archive.write_bytes(COMPRESSED[name.rpartition(".")[2]](plain))
        (nothing_left / "plain.tar").unlink()
    refused(archive, nothing_left, "more than|larger than")


# --- conda-unpack is read, and never run ---


def with_script(folder: Path, script: bytes, *more: Add) -> Path:
    with tarfile.open(folder / "demo.tar.gz", "w:gz") as archive:
        for add in (*ENVIRONMENT, *more, file("bin/conda-unpack", script, 0o755)):
            add(archive)
    return folder / "demo.tar.gz"


HOSTILE_RECORDS = {
    "code": ("invalid record", "__import__('os').system('touch owned')"),
    "code in a tuple": ("invalid record", "('lib/data', str(1), 'text')"),
    "no tuple": ("invalid record", "['lib/data', '/a', 'text']"),
    "too few": ("invalid record", "('lib/data', '/a')"),
    "numbers": ("invalid record", "('lib/data', 1, 'text')"),
    "brackets without end": ("invalid record", "(" * 100_000),
    "another mode": ("invalid record", "('lib/data', '/a', 'exec')"),
    "an empty placeholder": ("invalid record", "('lib/data', '', 'text')"),
    "a path that climbs out": ("unsafe path", "('../x', '/a', 'text')"),
    "an absolute path": ("unsafe path", "('/etc/passwd', '/a', 'text')"),
    "a file that is missing": ("are not in the archive", "('lib/none', '/a', 'text')"),
}


@pytest.mark.parametrize("what", HOSTILE_RECORDS)
def test_a_hostile_record_is_refused(what: str, nothing_left: Path) -> None:
    match, line = HOSTILE_RECORDS[what]
    script = b"_prefix_records = [\n" + line.encode() + b"\n]\n"
    refused(with_script(nothing_left, script), nothing_left, match)


def test_links_to_where_the_environment_was_are_not_followed_there(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "meta").mkdir(parents=True)
    (old / "meta/parcel.json").write_text("mine")
    script = b"_prefix_records = [\n" + f"('lib/data', '{old}', 'text')\n".encode() + b"]\n"
    archive = with_script(tmp_path, script, link("meta", f"{old}/meta"), link("up", f"{old}/lib"))
    deployed(archive, tmp_path / "x")
    assert (old / "meta/parcel.json").read_text() == "mine"
    assert (tmp_path / "x/up").readlink() == Path("lib")
    refused(with_script(tmp_path, script, link("lib/y", f"{old}/../y")), tmp_path, "target outside")


def test_links_to_where_the_environment_was_do_not_depend_on_what_is_there_now(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "old").symlink_to("elsewhere")
    script = b"_prefix_records = [\n" + f"('lib/data', '{tmp_path}/old', 'text')\n".encode() + b"]\n"
    deployed(with_script(tmp_path, script, link("l", f"{tmp_path}/old/lib/data")), tmp_path / "x")
    assert (tmp_path / "x/l").readlink() == Path("lib/data")


def test_nothing_in_an_archive_is_run(tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    script = unpack_script(before=f"open({str(owned)!r}, 'w')")
    deployed(with_script(tmp_path, script), tmp_path / "x")
    inspect_archive(tmp_path / "demo.tar.gz", Reporter())
    assert not owned.exists()


def test_a_conda_unpack_of_another_origin_is_no_record(nothing_left: Path) -> None:
    refused(with_script(nothing_left, b"#!/bin/sh\nexit 0\n"), nothing_left, "no record of prefixes", FormatError)


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"name": 1}', b"[" * 100_000, b"\xff"])
def test_broken_metadata_is_refused(broken: bytes, nothing_left: Path) -> None:
    archive = tar(nothing_left / "demo.tar.gz", file("conda-meta/broken-1.json", broken))
    refused(archive, nothing_left, r"demo\.tar\.gz: conda-meta/broken-1\.json is broken")
    with pytest.raises(IntegrityError, match="is broken"):
        inspect_archive(archive, Reporter())


# --- damaged, cut short, or nothing of the kind ---

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
    "tar": lambda data: data,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    body = file("lib/random", bytes(range(256)) * 400)
    return tar(tmp_path_factory.mktemp("plain") / "demo.tar", body, codec="").read_bytes()


@pytest.mark.parametrize("codec", COMPRESSED)
@pytest.mark.parametrize("left", [0.999, 0.9, 0.5, 0.1])
def test_an_archive_that_is_cut_short_is_refused(
    codec: str, left: float, plain: bytes, nothing_left: Path
) -> None:
    archive = nothing_left / "demo"
    whole = plain.rstrip(b"\0") if codec == "tar" else COMPRESSED[codec](plain)
    archive.write_bytes(whole[: int(len(whole) * left)])
    refused(archive, nothing_left, "truncated|early|damaged")


@pytest.mark.parametrize("codec", ["gz", "bz2", "xz"])
def test_an_archive_with_a_wrong_byte_is_refused(codec: str, plain: bytes, nothing_left: Path) -> None:
    whole = bytearray(COMPRESSED[codec](plain))
    whole[len(whole) // 2] ^= 1
    archive = nothing_left / "demo"
    archive.write_bytes(whole)
    refused(archive, nothing_left, "damaged")


def test_a_zip_with_a_wrong_byte_is_refused(nothing_left: Path) -> None:
    archive = zipped(nothing_left / "demo.zip", ("lib/x", bytes(range(256)) * 100))
    data = bytearray(archive.read_bytes())
    data[data.index(b"lib/x") + 40] ^= 1
    archive.write_bytes(data)
    refused(archive, nothing_left, "damaged")


def test_a_damaged_header_is_refused_and_does_not_end_the_archive(plain: bytes, nothing_left: Path) -> None:
    at = plain.index(b"lib/data")
    archive = nothing_left / "demo.tar"
    archive.write_bytes(plain[:at] + b"LIB" + plain[at + 3 :])
    refused(archive, nothing_left, "damaged: bad checksum")


def test_data_behind_the_end_is_refused(plain: bytes, nothing_left: Path) -> None:
    (nothing_left / "demo.tar").write_bytes(plain + b"more")
    refused(nothing_left / "demo.tar", nothing_left, "after the end")


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", gzip.compress(b"hello" * 1000), b"PK\3\4 is no zip", b"ustar".rjust(262)],
    ids=["empty", "text", "text in gzip", "the start of a zip", "the mark of a tar"],
)
def test_what_is_no_archive_is_named_so(data: bytes, nothing_left: Path) -> None:
    archive = nothing_left / "demo"
    archive.write_bytes(data)
    refused(archive, nothing_left, "neither a bundle nor an archive|damaged|truncated", EnvpackError)


def test_an_archive_of_something_else_is_named_so(nothing_left: Path) -> None:
    with tarfile.open(nothing_left / "demo.tar.gz", "w:gz") as archive:
        file("src/main.c", b"int main;")(archive)
    refused(nothing_left / "demo.tar.gz", nothing_left, "not an archive of an environment", FormatError)


def test_an_archive_with_two_environments_is_refused(nothing_left: Path) -> None:
    with tarfile.open(nothing_left / "demo.tar.gz", "w:gz") as archive:
        for root in ("a", "b"):
            file(f"{root}/conda-meta/demo-1.0-0.json", record("demo"))(archive)
    refused(nothing_left / "demo.tar.gz", nothing_left, "more than one environment", FormatError)


def test_an_archive_for_another_platform_is_refused(nothing_left: Path) -> None:
    windows = record("python", subdir="win-64")
    archive = tar(nothing_left / "demo.tar.gz", file("conda-meta/python-3.12-0.json", windows))
    refused(archive, nothing_left, "win-64", HostError)


def test_a_destination_that_scripts_do_not_take_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "demo.tar.gz")
    with pytest.raises(RelocationError):
        deployed(archive, tmp_path / "it's here")


def test_a_destination_without_room_in_a_binary_is_refused(nothing_left: Path) -> None:
    placeholder = "/a/short/placeholder_placehold_placehold"
    library = b"\x7fELF\0" + placeholder.encode() + b"/share\0"
    package = record("old", ["lib/old.so"])
    script = unpack_script(("lib/old.so", placeholder, "binary"))
    with tarfile.open(nothing_left / "demo.tar.gz", "w:gz") as archive:
        for add in (
            file("lib/old.so", library),
            file("conda-meta/old-1.0-0.json", package),
            file("bin/conda-unpack", script),
        ):
            add(archive)
    before = sorted(nothing_left.rglob("*"))
    with pytest.raises(RelocationError, match="at most 40 fit") as caught:
        deployed(nothing_left / "demo.tar.gz", nothing_left / "envs" / ("x" * 50))
    assert caught.value.details == ["lib/old.so: at most 40 bytes"]
    assert sorted(nothing_left.rglob("*")) == before


# --- oddities that are fine ---


def test_setuid_and_strange_modes_do_not_come_through(tmp_path: Path) -> None:
    archive = tar(tmp_path / "demo.tar.gz", file("bin/su", b"#!/bin/sh\n", 0o4777), file("lib/secret", b"", 0o000))
    deployed(archive, tmp_path / "x")
    assert (tmp_path / "x/bin/su").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "x/lib/secret").stat().st_mode & 0o7777 == 0o644


def test_a_file_that_two_packages_brought_may_be_there_twice(tmp_path: Path) -> None:
    members = [
        file("lib/both", b"1"),
        file("lib/both", b"2"),
        file("conda-meta/a-1.0-0.json", record("a", ["lib/both"])),
        file("conda-meta/b-1.0-0.json", record("b", ["lib/both"])),
    ]
    deployed(tar(tmp_path / "demo.tar.gz", *members), tmp_path / "x")
    assert (tmp_path / "x/lib/both").read_bytes() == b"2"  # as tar does it


def test_hard_links_with_data_of_their_own_are_read(tmp_path: Path) -> None:
    """conda-pack #248's neighbour: the second of two scripts that share an inode is written as a hard link, with
    data behind it, and tar stumbles over that."""
    script = b"#!/usr/bin/env python\n"
    second = file("bin/two", script, 0o755, type=tarfile.LNKTYPE, linkname="bin/one")
    archive = tar(tmp_path / "demo.tar.gz", file("bin/one", script, 0o755), second, file("lib/behind", b"whole"))
    with tarfile.open(archive) as plain_reader, pytest.raises((tarfile.ReadError, AssertionError)):
        assert "lib/behind" in plain_reader.getnames()
    done = deployed(archive, tmp_path / "x")
    assert (tmp_path / "x/bin/two").read_bytes() == script
    assert (tmp_path / "x/lib/behind").read_bytes() == b"whole"
    assert [(repair.kind, repair.paths) for repair in done.repairs] == [("linked", ("bin/two",))]


def test_names_of_any_encoding_and_length(tmp_path: Path) -> None:
    long = "/".join(["n" * 100] * 5)
    names = ["share/caf\u00e9", "share/caf\udce9", long]
    deployed(tar(tmp_path / "demo.tar.gz", *(file(name, b"1") for name in names)), tmp_path / "x")
    for name in names:
        assert (tmp_path / "x" / name).read_bytes() == b"1"


def test_links_to_where_the_environment_was_lead_into_the_deployment(tmp_path: Path) -> None:
    deployed(tar(tmp_path / "demo.tar.gz", link("lib/absolute", f"{BUILD_PREFIX}/bin/tool")), tmp_path / "x")
    assert (tmp_path / "x/lib/absolute").readlink() == Path("../bin/tool")


def test_scripts_that_conda_wrote_run_the_environment_s_python(tmp_path: Path) -> None:
    paths = [
        {"_path": "bin/conda", "path_type": "unix_python_entry_point"},
        {"_path": "bin/published", "path_type": "hardlink"},
    ]
    about = record("pure", ["bin/conda", "bin/published"], paths_data={"paths": paths, "paths_version": 1})
    script = b"#!/usr/bin/env python3.11\npass\n"
    archive = tar(
        tmp_path / "a.tar.gz",
        file("conda-meta/pure-1.0-0.json", about),
        file("bin/conda", script, 0o755),
        file("bin/published", script, 0o755),
        file("bin/python3.11", b"", 0o755),
    )
    deployed(archive, tmp_path / "env")
    assert (tmp_path / "env/bin/conda").read_text().startswith(f"#!{tmp_path}/env/bin/python3.11\n")
    assert (tmp_path / "env/bin/published").read_bytes() == script


DIRECT = b"#!%s/bin/python -s\n"
PIP = b"#!/bin/sh\n'''exec' \"%s/bin/python3.11\" \"$0\" \"$@\"\n' '''\n"
CONDA = b"#!/bin/sh\n'''exec' \"%s/bin/python\" \"$0\" \"$@\" #'''\n"
ENV_S = b"#!/usr/bin/env -S %s/bin/python -u\n"
PC = b"prefix=%s\nlibdir=${prefix}/lib\n"


@pytest.mark.parametrize(
    ("path", "text", "former"),
    [
        ("bin/app", DIRECT, "/opt/my env"),
        ("bin/app", PIP, f"/{'long/' * 30}env"),
        ("bin/app", CONDA, "/opt/my env"),
        ("bin/app", ENV_S, "/opt/env"),
        ("lib/pkgconfig/demo.pc", PC, "/opt/my env"),
    ],
)
def test_the_former_prefix_is_found_without_a_record(path: str, text: bytes, former: str, tmp_path: Path) -> None:
    """Other environments named in other folders, and the host's own interpreters, are not it."""
    archive = tmp_path / "a.tar"
    members = (
        file("bin/system", b"#!/usr/bin/perl\n", 0o755),
        file("bin/through-env", b"#!/usr/bin/env python\n", 0o755),
        *(file(f"lib/other/bin/{number}", DIRECT % b"/opt/other", 0o755) for number in range(3)),
        file(path, text % former.encode(), 0o755),
        file("etc/place", former.encode()),
    )
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as output:
        for add in (file("conda-meta/demo-1.0-0.json", record("demo")), *members):
            add(output)
    assert inspect_archive(archive, Reporter()).origin.prefix == former.encode()
    done = deployed(archive, tmp_path / "x")
    assert any(f"packed for {former})" in sentence for sentence in done.lacks)
    assert (tmp_path / "x/etc/place").read_text() == f"{tmp_path}/x"


def test_bundles_are_distinguished_from_archives(tmp_path: Path) -> None:
    from support.bundle_factory import file as bundle_file
    from support.bundle_factory import make_bundle

    for suffix in ("tar.gz", "tar.zst"):
        make_bundle(tmp_path / f"b.{suffix}", {"environment": [bundle_file("lib/x", b"1")]})
        assert not is_archive(tmp_path / f"b.{suffix}")
    assert is_archive(tar(tmp_path / "demo.tar.gz"))
    assert is_archive(zipped(tmp_path / "demo.zip"))


def test_a_stream_of_several_parts_and_padding_is_one(plain: bytes, tmp_path: Path) -> None:
    """Programs that compress in parallel write this; conda-pack does with several threads."""
    for codec, compress in COMPRESSED.items():
        archive = tmp_path / f"demo-{codec}"
        archive.write_bytes(compress(plain[:5000]) + compress(plain[5000:]) + bytes(512))
        deployed(archive, tmp_path / f"x-{codec}")
        assert (tmp_path / f"x-{codec}/lib/data").read_bytes() == b"data"


def test_times_that_a_zip_rounds_are_found_in_byte_code_again(tmp_path: Path) -> None:
    source, mtime, zone = b"x = 1\n", 1_700_000_001, 5 * 3600 + 1800  # odd, and in a zone of half an hour
    info = zipfile.ZipInfo("lib/python3.11/m.py", _dos(mtime + zone))
    code = struct.pack("<4sIII", b"\xa7\r\r\n", 0, mtime, len(source)) + b"N"
    archive = zipped(tmp_path / "demo.zip", (info, source), ("lib/python3.11/__pycache__/m.cpython-311.pyc", code))
    done = deployed(archive, tmp_path / "x")
    assert [repair.kind for repair in done.repairs] == ["times"]
    stamp = (tmp_path / "x/lib/python3.11/__pycache__/m.cpython-311.pyc").read_bytes()[8:16]
    facts = (tmp_path / "x/lib/python3.11/m.py").stat()
    assert struct.unpack("<II", stamp) == (facts.st_mtime, len(source))


def _dos(seconds: int) -> tuple[int, int, int, int, int, int]:
    import time

    at = time.gmtime(seconds // 2 * 2)
    return at.tm_year, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec


def test_memory_stays_flat(tmp_path: Path) -> None:
    """A member is handed on in pieces, whatever its size: nothing asks for all of it."""
    from envpack.interop.archive.members import read_members

    archive = tar(tmp_path / "demo.tar.gz", file("large", bytes(40 << 20)))
    sizes = [len(piece) for found, data in read_members(archive, lambda n: None) for piece in data]
    assert sum(sizes) > 40 << 20 and max(sizes) <= 1 << 20
