"""Segments are taken from earlier bundles when they are what packing anew would give, and only then."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.bundle import segment_items as items
from envpack.bundle.cache import signature
from envpack.bundle.cache.cache_files import cache_facts, cache_folder, clear_cache
from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.prefix.model import Entry
from support.sample_deployments import deployed
from support.small_prefix import SmallPrefix


@pytest.fixture(scope="module")
def with_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the zipped runtime, which takes longer to make than all else that these tests pack."""
    folder = tmp_path_factory.mktemp("cache")
    runtime_zip(folder)
    return folder


@pytest.fixture
def made(with_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallPrefix:
    shutil.copytree(with_runtime, tmp_path / "cache")
    monkeypatch.setattr(signature, "RACY", -(10**9))  # the files are as old as the test
    made = SmallPrefix(tmp_path / "env")
    fill(made)
    return made


def fill(made: SmallPrefix) -> None:
    made.write("bin/tool", f"#!{made.path}/bin/python -s\n", 0o755)
    made.write("lib/data.bin", b"\0" + os.fsencode(made.path) + b"/lib\0" + bytes(range(256)) * 400)
    made.write("lib/wide.bin", f"{made.path}/x".encode("utf-16-le"))
    made.write("share/text", "nothing of interest\n" * 1000)
    made.link("lib/link", "data.bin")
    for name, version in (("one", "1.0"), ("two", "2.0")):
        files = [f"lib/{name}/{number}.txt" for number in range(5)]
        for path in files:
            made.write(path, f"{name} {path} in {made.path}\n")
        record = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": [], "files": files}
        made.write(f"conda-meta/{name}-{version}-0.json", json.dumps(record))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of files that were read to be stored."""
    seen: list[str] = []
    really = items._read

    def reading(place: str, entry: Entry) -> object:
        seen.append(entry.path)
        return really(place, entry)

    monkeypatch.setattr(items, "_read", reading)
    return seen


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the frames of segments that were compressed."""
    import envpack.bundle.frames as frames

    sizes: list[int] = []
    really = frames.compress

    def compressing(encoder: object, data: bytes) -> object:
        sizes.append(len(data))
        return really(encoder, data)  # type: ignore[arg-type]

    monkeypatch.setattr(frames, "compress", compressing)
    return sizes


def packed(made: SmallPrefix, tmp_path: Path, name: str = "b.tar.gz", **settings: object) -> bytes:
    made.pack(tmp_path / name, **{"cache": tmp_path / "cache", **settings})
    return (tmp_path / name).read_bytes()


def test_what_did_not_change_is_neither_read_nor_compressed(
    made: SmallPrefix, tmp_path: Path, read: list[str], compressed: list[int]
) -> None:
    first = packed(made, tmp_path)
    assert "lib/data.bin" in read
    read.clear()
    compressed.clear()
    assert packed(made, tmp_path) == first
    assert "lib/data.bin" not in read
    anew = SmallPrefix(made.path)
    assert packed(anew, tmp_path, "anew.tar.gz", cache=None) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.write("lib/one/3.txt", "changed"),
        lambda made: (made.path / "lib/one/3.txt").chmod(0o755),
        lambda made: (made.path / "lib/one/3.txt").unlink(),
        lambda made: made.write("lib/one/9.txt", "new, and of no package"),
        lambda made: (made.path / "lib/one/3.txt").rename(made.path / "lib/one/4.txt"),
    ],
    ids=["bytes", "mode", "removed", "added", "renamed"],
)
def test_any_change_is_packed_as_without_a_cache(
    made: SmallPrefix, tmp_path: Path, change: Callable[[SmallPrefix], object], read: list[str]
) -> None:
    before = packed(made, tmp_path)
    change(made)
    read.clear()
    after = packed(made, tmp_path)
    assert not any(path.startswith("lib/two/") for path in read)
    assert after == packed(made, tmp_path, "anew.tar.gz", cache=None) != before


def test_bytes_changed_under_the_same_size_and_time_are_noticed(made: SmallPrefix, tmp_path: Path) -> None:
    before = packed(made, tmp_path)
    place = made.path / "lib/one/3.txt"
    facts = place.stat()
    place.write_bytes(place.read_bytes().swapcase())
    os.utime(place, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert place.stat().st_mtime_ns == facts.st_mtime_ns and place.stat().st_size == facts.st_size
    assert packed(made, tmp_path) == packed(made, tmp_path, "anew.tar.gz", cache=None) != before


def test_a_file_that_was_written_a_moment_ago_is_read_again(
    made: SmallPrefix, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signature, "RACY", 3600 * 10**9)
    first = packed(made, tmp_path)
    read.clear()
    assert packed(made, tmp_path) == first
    assert "lib/data.bin" in read


def test_a_recreated_environment_is_read_and_not_compressed(
    made: SmallPrefix, tmp_path: Path, read: list[str], compressed: list[int]
) -> None:
    first = packed(made, tmp_path)
    shutil.rmtree(made.path)
    fill_again = SmallPrefix(made.path)
    fill(fill_again)
    read.clear()
    compressed.clear()
    assert packed(fill_again, tmp_path) == first
    assert "lib/data.bin" in read
    own, *others = sorted(compressed, reverse=True)
    assert own > 500_000 > 20_000 > sum(others)  # besides, the end of the archive and the table


def test_another_level_and_another_codec_are_packed_for_themselves(made: SmallPrefix, tmp_path: Path) -> None:
    packed(made, tmp_path)
    for name, level in (("b.tar.gz", 9), ("b.tar.zst", None)):
        kept = packed(made, tmp_path, name, level=level)
        assert kept == packed(made, tmp_path, f"anew-{name}", level=level, cache=None)


def test_findings_are_reported_from_the_cache_too(made: SmallPrefix, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    changes = [made.pack(tmp_path / "out/b.tar.gz", cache=tmp_path / "cache").changes for _ in range(2)]
    assert changes[0] == changes[1] and changes[0].unrelocatable[0].path == "lib/wide.bin"


def test_it_works_when_the_bundle_itself_is_gone(made: SmallPrefix, tmp_path: Path, read: list[str]) -> None:
    first = packed(made, tmp_path)
    (tmp_path / "b.tar.gz").unlink()
    read.clear()
    assert packed(made, tmp_path) == first and "lib/data.bin" not in read


def test_a_bundle_that_was_written_to_is_not_used(made: SmallPrefix, tmp_path: Path, read: list[str]) -> None:
    first = packed(made, tmp_path)
    with (tmp_path / "b.tar.gz").open("r+b") as file:
        file.write(b"damage")
    read.clear()
    assert packed(made, tmp_path) == first and "lib/data.bin" in read


@pytest.mark.parametrize("suffix", [".json", ".table", ".bundle"])
@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:40])]
)
def test_a_damaged_cache_is_as_none(
    made: SmallPrefix, tmp_path: Path, suffix: str, harm: Callable[[Path], object]
) -> None:
    first = packed(made, tmp_path)
    (tmp_path / "b.tar.gz").unlink()
    for path in [*(tmp_path / "cache").rglob(f"*{suffix}")]:
        harm(path)
    assert packed(made, tmp_path) == first


def test_a_cache_that_can_t_be_written_is_no_error(made: SmallPrefix, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file")
    assert packed(made, tmp_path) == packed(made, tmp_path, "anew.tar.gz", cache=None)


def test_the_oldest_go_first_and_the_newest_stays(
    made: SmallPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    sizes = []
    for number in range(4):
        made.write("lib/one/0.txt", os.urandom(1000 + number))
        packed(made, tmp_path, f"{number}.tar.gz")
        sizes.append(cache_facts(folder).size)
    assert cache_facts(folder).bundles == 4
    monkeypatch.setenv("ENVPACK_CACHE_LIMIT", str(sizes[1]))
    made.write("lib/one/0.txt", os.urandom(2000))
    packed(made, tmp_path, "4.tar.gz")
    assert 1 <= cache_facts(folder).bundles <= 2
    monkeypatch.setenv("ENVPACK_CACHE_LIMIT", "1")
    made.write("lib/one/0.txt", os.urandom(3000))
    packed(made, tmp_path, "5.tar.gz")
    assert cache_facts(folder).bundles == 1
    assert cache_facts(folder).own < cache_facts(folder).size  # the bundle is shared
    clear_cache(folder)
    assert cache_facts(folder).bundles == 0 and (tmp_path / "5.tar.gz").exists()


def test_a_bundle_with_all_parts_in_the_next_one_is_removed_from_the_cache(
    made: SmallPrefix, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        packed(made, tmp_path, f"{name}.tar.gz")
    assert cache_facts(tmp_path / "cache").bundles == 1


_PACK = """
import sys
from pathlib import Path
import envpack.bundle.cache.signature as signature
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.runtime.report import Reporter
signature.RACY = -10**9
for _ in range(2):
    settings = PackSettings(cache=Path(sys.argv[3]))
    pack_prefix(Path(sys.argv[1]), Path(sys.argv[2]), settings=settings, reporter=Reporter())
"""


def test_several_may_pack_at_once(made: SmallPrefix, tmp_path: Path) -> None:
    first = packed(made, tmp_path, cache=None)
    outputs = [tmp_path / f"{number}.tar.gz" for number in range(3)]
    command = [sys.executable, "-c", _PACK, str(made.path)]
    running = [subprocess.Popen([*command, str(output), str(tmp_path / "empty")]) for output in outputs]
    assert [process.wait() for process in running] == [0] * 3
    assert all(output.read_bytes() == first for output in outputs)


def test_a_bundle_made_of_kept_parts_deploys(made: SmallPrefix, tmp_path: Path) -> None:
    packed(made, tmp_path)
    made.write("lib/one/3.txt", "changed")
    packed(made, tmp_path)
    deployed(tmp_path / "b.tar.gz", tmp_path / "to")
    assert (tmp_path / "to/lib/one/3.txt").read_text() == "changed"
    assert (tmp_path / "to/lib/two/0.txt").read_text() == f"two lib/two/0.txt in {tmp_path}/to\n"


def test_where_it_is() -> None:
    assert cache_folder({"ENVPACK_CACHE": "/c"}) == Path("/c")
    assert cache_folder({"ENVPACK_CACHE": "", "XDG_CACHE_HOME": "/x"}) is None
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/envpack/segments")


def test_code_in_every_folder_of_a_package_counts(tmp_path: Path) -> None:
    (tmp_path / "room/deep").mkdir(parents=True)
    for name in ("a.py", "notes.md", "room/b.json", "room/deep/c.py", "room/deep/c.pyc"):
        (tmp_path / name).touch()
    assert signature.code_files(tmp_path) == [
        tmp_path / name for name in ("a.py", "room/b.json", "room/deep/c.py")
    ]
