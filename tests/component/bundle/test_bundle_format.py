"""The format: what is written is read back, as an archive too, and anything damaged is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST, encoder_for
from envpack.bundle.frames import FRAME_SIZE
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.errors import (
    DestinationError,
    EnvpackError,
    FormatError,
    HostError,
    IntegrityError,
    RelocationError,
    UsageError,
)
from envpack.runtime.format import tar
from envpack.runtime.format.codec import STANDARD
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.format.manifest_json import manifest_to_json
from envpack.runtime.fs.lock import locked
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.report import Reporter
from support.bundle_factory import PLACEHOLDER, file, library, link, make_bundle, text
from support.sample_deployments import deployed
from support.trees import snapshot

NOISE = random.Random(1).randbytes(2 * FRAME_SIZE + 12345)
SEGMENTS = {
    "runtime": [text(".envpack/note", b"@")],
    "conda:a-1-0": [
        text("bin/tool", b"prefix is @/share and @\n", 0o755),
        file("lib/big.bin", NOISE),
        file("lib/empty", b""),
        library("lib/lib.so"),
        link("lib/big.link", "big.bin"),
    ],
    "environment": [text("etc/config", b"root=@\n")],
}
Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name in ("b.tar.gz", "b.tar.zst"):
        make_bundle(folder / name, SEGMENTS)
    return folder


@pytest.fixture(params=["b.tar.gz", "b.tar.zst"])
def bundle(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Path:
    """A bundle that is not to be written to."""
    path: Path = tmp_path / request.param
    os.link(made / request.param, path)
    return path


@pytest.fixture
def gz(made: Path, tmp_path: Path) -> Path:
    """A bundle with a file of several frames, not to be written to."""
    path = tmp_path / "b.tar.gz"
    os.link(made / "b.tar.gz", path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A bundle with the same files, of which none has several frames."""
    path = tmp_path / "b.tar.gz"
    make_bundle(
        path, {**SEGMENTS, "conda:a-1-0": [*SEGMENTS["conda:a-1-0"][2:4], file("lib/big.bin", NOISE[:30_000])]}
    )
    return path


def test_a_deployment_has_the_destination_written_in(bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "envs/x"
    deployed(bundle, root)
    assert (root / "bin/tool").read_text() == f"prefix is {root}/share and {root}\n"
    assert (root / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "lib/big.bin").read_bytes() == NOISE
    assert (root / "lib/big.link").read_bytes() == NOISE
    library = (root / "lib/lib.so").read_bytes()
    assert library == (b"\x7fELF" + str(root).encode() + b"/lib").ljust(4 + 255 + 4, b"\0") + b"\0rest\0"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([bundle.name, "envs"])


def test_tar_reads_it_as_it_is(gz: Path, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    done = subprocess.run(["tar", "-xzf", gz, "-C", root], capture_output=True, check=True)
    assert done.stderr == b""
    assert (root / "bin/tool").read_bytes() == b"prefix is " + PLACEHOLDER + b"/share and " + PLACEHOLDER + b"\n"
    subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=root / ".envpack", check=True, capture_output=True)


def test_the_manifest_can_be_read_without_the_rest(bundle: Path) -> None:
    with open_bundle(bundle, FAST) as opened:
        assert opened.manifest.name == "synthetic"
        assert opened.manifest.longest_prefix == 255
        assert opened.manifest.limited_by == "lib/lib.so"
        assert [segment.id for segment in opened.manifest.segments] == [*SEGMENTS, "end"]
        assert opened.head_size < opened.size / 100
        expected = [item.record.path for items in SEGMENTS.values() for item in items]
        assert [record.path for record in opened.table()] == expected


def test_the_same_files_give_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = tmp_path / f"again{''.join(bundle.suffixes)}"
    make_bundle(again, SEGMENTS)
    assert again.read_bytes() == bundle.read_bytes()


def test_a_segment_is_the_same_in_another_bundle(gz: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tar.gz"
    make_bundle(other, {**SEGMENTS, "environment": [text("etc/other", b"@")]}, name="other")
    with open_bundle(gz) as one, open_bundle(other) as two:
        assert one.manifest.segments[1] == two.manifest.segments[1]


def test_the_bare_and_the_fast_decoders_agree(gz: Path, tmp_path: Path) -> None:
    deployed(gz, tmp_path / "x")
    first = snapshot(tmp_path / "x", record=False)
    (tmp_path / "x").rename(tmp_path / "y")
    deploy(gz, tmp_path / "x", reporter=Reporter(), decoders=STANDARD)
    second = snapshot(tmp_path / "x", record=False)
    assert first == second


def flip(position: Callable[[int], int]) -> Damage:
    def damage(data: bytes) -> bytes:
        at = position(len(data))
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return damage


def edited_manifest(data: bytes) -> bytes:
    """Change the manifest with gzip and tar, without the digest beside it."""
    head = gzip.decompress(data[: first_member(data)])
    changed = head.replace(b'"name": "synthetic"', b'"name": "sYnthetic"')
    assert changed != head
    return gzip.compress(changed) + data[first_member(data) :]


def first_member(data: bytes) -> int:
    found = STANDARD["gzip"].first(data)
    assert found is not None
    return found[1]


def reordered(data: bytes) -> bytes:
    """Two frames of the payload change places."""
    start = data.index(b"\x1f\x8b\x08\0\0\0\0\0", len(data) // 3)
    end = data.index(b"\x1f\x8b\x08\0\0\0\0\0", start + 8)
    return data[:start] + data[end:] + data[start:end]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip(lambda size: 0), id="magic"),
        pytest.param(flip(lambda size: 300), id="first KB"),
        pytest.param(flip(lambda size: size // 2), id="middle"),
        pytest.param(flip(lambda size: size - 500), id="last KB"),
        pytest.param(flip(lambda size: size - 1), id="last byte"),
        pytest.param(lambda data: data[: len(data) // 2], id="half"),
        pytest.param(lambda data: data[:-1], id="one byte short"),
        pytest.param(lambda data: data[:100], id="100 bytes"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data + b"x", id="one byte more"),
        pytest.param(lambda data: data + data, id="twice"),
        pytest.param(edited_manifest, id="edited manifest"),
        pytest.param(lambda data: b"PK\3\4" + data, id="zip"),
        pytest.param(lambda data: gzip.compress(b"text" * 1000), id="gzip of text"),
        pytest.param(lambda data: gzip.compress(bytes(1 << 20)), id="gzip of nothing"),
    ],
)
def test_damage_anywhere_is_refused_and_nothing_is_left(small: Path, tmp_path: Path, damage: Damage) -> None:
    small.write_bytes(damage(small.read_bytes()))
    refused(small, tmp_path)


@pytest.mark.parametrize("at", [2, pytest.param(3, marks=pytest.mark.long)])
def test_damage_in_a_file_of_several_frames_is_refused(gz: Path, tmp_path: Path, at: int) -> None:
    data = flip(lambda size: size // at)(gz.read_bytes())
    gz.unlink()
    gz.write_bytes(data)
    refused(gz, tmp_path)


def test_frames_of_a_file_that_change_places_are_refused(gz: Path, tmp_path: Path) -> None:
    data = reordered(gz.read_bytes())
    gz.unlink()
    gz.write_bytes(data)
    refused(gz, tmp_path)


def refused(bundle: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for decoders in (FAST, STANDARD):
        with pytest.raises(EnvpackError) as caught:
            deploy(bundle, tmp_path / "envs/x", reporter=Reporter(), decoders=decoders)
        assert caught.value.code in (6, 7)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    """Only in the first frame can a bit be spare (gzip's time field, an unused code): it has no digest of its own,
    but the manifest in it has one, so what is read from it is proved all the same."""
    bundle = tmp_path / "b.tar.gz"
    make_bundle(bundle, {"environment": [text("etc/config", b"root=@\n")]})
    data = bundle.read_bytes()
    with open_bundle(bundle) as opened:
        manifest = opened.manifest_bytes
    spare = 0
    for at in range(len(data)):
        bundle.write_bytes(data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :])
        try:
            with open_bundle(bundle, FAST) as opened:
                for located in opened.frames():
                    opened.load(located)
                opened.table()
        except EnvpackError as error:
            assert error.code in (6, 7), at
        else:
            assert at < first_member(data), at
            assert opened.manifest_bytes == manifest
            spare += 1
    assert spare < 20


def hostile(tmp_path: Path, *items: object, **fields: object) -> Path:
    path = tmp_path / "hostile.tar.gz"
    make_bundle(path, {"environment": items}, **fields)  # type: ignore[dict-item]
    return path


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([file("/etc/x", b"")], id="absolute"),
        pytest.param([file("../x", b"")], id="parent"),
        pytest.param([file("a/../../x", b"")], id="parent inside"),
        pytest.param([link("l", "/etc")], id="absolute link"),
        pytest.param([link("a/l", "../../x")], id="link out"),
        pytest.param([link("l", "a"), file("l/x", b"")], id="file below a link"),
        pytest.param([file("x", b"1"), file("x", b"2")], id="twice"),
        pytest.param([file("x", b"1"), file("x/y", b"2")], id="file below a file"),
        pytest.param([file(".envpack/manifest.json", b"{}")], id="own manifest"),
        pytest.param([file("x", b"abc", 0o4755)], id="setuid"),
        pytest.param([file("x", b"abc", relocation=Relocation(b"/p", text=(0,)))], id="no placeholder there"),
        pytest.param([file("x", b"/p", relocation=Relocation(b"/p", text=(1,)))], id="relocation outside"),
        pytest.param([file("x", b"/p/p", relocation=Relocation(b"/p/p", text=(0, 1)))], id="relocations overlap"),
    ],
)
def test_an_unsafe_bundle_is_refused(tmp_path: Path, items: list[object]) -> None:
    bundle = hostile(tmp_path, *items)
    with pytest.raises(EnvpackError) as caught:
        deployed(bundle, tmp_path / "envs/x")
    assert caught.value.code in (6, 7)
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]


def test_a_format_of_the_future_says_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envpack.bundle.writer.check_readable", lambda manifest: None)
    bundle = hostile(tmp_path, format=2)
    with pytest.raises(FormatError, match="newer") as caught:
        deployed(bundle, tmp_path / "x")
    assert "pip install" in caught.value.hint


def test_a_tar_that_says_other_than_the_table_is_refused(tmp_path: Path) -> None:
    """Plain tar and envpack must never give different trees."""
    bundle = hostile(tmp_path, file("bin/good", b"12345"))
    with open_bundle(bundle) as opened:
        manifest, size = opened.manifest, opened.head_size
    encoder = encoder_for("x.tar.gz")
    entry = tar.header(PathRecord("bin/evil", "file", size=5)) + b"12345" + bytes(tar.padding(5))
    frame = encoder.frame(entry)
    document = json.loads(manifest_to_json(manifest))
    document["segments"][0]["frames"] = [[len(frame), len(entry), hashlib.sha256(frame).hexdigest()]]
    data = json.dumps(document).encode()
    members = ((".envpack/manifest.json", data), (".envpack/manifest.sha256", digest(data)))
    first = b"".join(
        tar.header(PathRecord(path, "file", size=len(content))) + content + bytes(tar.padding(len(content)))
        for path, content in members
    )
    old = bundle.read_bytes()
    stored = [sum(f.stored for f in segment.frames) for segment in manifest.segments]
    head = old[size - sum(f.stored for f in manifest.head) : size]
    bundle.write_bytes(encoder.frame(first) + head + frame + old[size + stored[0] :])
    with pytest.raises(IntegrityError, match="bin/good"):
        deployed(bundle, tmp_path / "x")


def digest(data: bytes) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}  manifest.json\n".encode()


def test_another_platform_is_refused(tmp_path: Path) -> None:
    bundle = hostile(tmp_path, file("x", b""), subdir="win-64")
    with pytest.raises(HostError) as refused:
        deployed(bundle, tmp_path / "x")
    assert ["win-64" in line for line in refused.value.details] == [True]
    assert not (tmp_path / "x").exists()


def test_a_destination_in_use_is_left_alone(small: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine").write_text("mine")
    with pytest.raises(DestinationError, match="not empty"):
        deployed(small, tmp_path / "x")
    assert (tmp_path / "x/mine").read_text() == "mine"
    (tmp_path / "x/mine").unlink()
    deployed(small, tmp_path / "x")
    assert (tmp_path / "x/lib/empty").exists()


def test_a_destination_too_long_is_refused_before_anything_is_written(gz: Path, tmp_path: Path) -> None:
    destination = tmp_path / ("d" * 200) / ("e" * 100)
    with pytest.raises(RelocationError, match="at most 255 fit") as caught:
        deployed(gz, destination)
    assert "lib/lib.so" in caught.value.details[0]
    assert not (tmp_path / ("d" * 200)).exists()


def test_a_destination_that_breaks_scripts_is_refused(gz: Path, tmp_path: Path) -> None:
    with pytest.raises(RelocationError, match="break"):
        deployed(gz, tmp_path / "a:b")


def test_a_destination_that_is_not_utf8_is_refused(gz: Path, tmp_path: Path) -> None:
    with pytest.raises(RelocationError, match="UTF-8"):
        deployed(gz, tmp_path / "\udcff")


def test_a_destination_that_cannot_be_made_is_refused(gz: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationError):
        deployed(gz, tmp_path / "file/x")


def test_too_little_space_is_reported_before_anything_is_written(
    gz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1_000_000))
    with pytest.raises(DestinationError, match=r"1.0 MB free, but the bundle needs 8.4 MB"):
        deployed(gz, tmp_path / "envs/x")
    assert [path.name for path in tmp_path.iterdir()] == [gz.name]


def test_two_deployments_to_one_place_do_not_mix(small: Path, tmp_path: Path) -> None:
    beside = tmp_path / ".x.envpack"
    with (
        locked(beside / "lock", wait=False, folder_mode=0o700),
        pytest.raises(DestinationError, match="another envpack"),
    ):
        deployed(small, tmp_path / "x")
    (beside / "new-1").mkdir()
    (beside / "new-1/left over").write_text("by a crash")
    deployed(small, tmp_path / "x")
    assert not beside.exists()
    assert not (tmp_path / "x/left over").exists()


def test_a_lock_file_of_the_environment_s_own_is_kept(tmp_path: Path) -> None:
    make_bundle(tmp_path / "b.tar.gz", {"environment": [file(".lock", b"1")]})
    deployed(tmp_path / "b.tar.gz", tmp_path / "x")
    assert (tmp_path / "x/.lock").read_bytes() == b"1"
    assert not list((tmp_path / "x").glob(".envpack-*"))


def test_a_failing_writer_leaves_no_output(tmp_path: Path) -> None:
    def items() -> object:
        yield file("a", b"1")
        raise RuntimeError("reading failed")

    with pytest.raises(RuntimeError):
        make_bundle(tmp_path / "b.tar.gz", {"environment": items()})  # type: ignore[dict-item]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.zst"])
def test_a_level_is_obeyed(suffix: str) -> None:
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    data = b"".join(source.read_bytes() for source in sources)[: FRAME_SIZE // 4]
    sizes = [len(encoder_for(suffix, level).frame(data)) for level in (1, 6, 12)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_formats_and_levels_that_do_not_exist_are_named() -> None:
    with pytest.raises(UsageError, match="known suffix"):
        encoder_for("b.rar")
    with pytest.raises(UsageError, match="level 99"):
        encoder_for("b.tar.zst", 99)
