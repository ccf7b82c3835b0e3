"""An upgrade reuses unchanged segments of the current deployment, and gives the same tree as a new deployment,
whatever was changed in the current one: real bundles, from a real server that counts what it serves."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envpack.bundle.codecs import FAST
from envpack.bundle.model import Item
from envpack.runtime.commands.deploy import Deployment
from envpack.runtime.commands.move import move
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify_deployment
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.report import Reporter
from support.bundle_factory import PLACEHOLDER, file, link, make_bundle, text
from support.namespaces import cloning_filesystem
from support.sample_deployments import deployed
from support.servers import Files, serving
from support.trees import snapshot

NOISE = random.Random(6).randbytes(300_000)
BINARY = b"\x7fELF" + PLACEHOLDER + b"/lib\0" + NOISE[:150_000]
NUMPY = [
    text("bin/f2py", b"#!/bin/sh\necho @ f2py @\n", 0o755),
    file("lib/numpy/core/core.so", NOISE, 0o755),
    Item(PathRecord("lib/numpy/again.so", "hardlink", target="lib/numpy/core/core.so")),
    link("lib/numpy/latest", "core/core.so"),
    file("lib/numpy/tool", BINARY, 0o755, Relocation(PLACEHOLDER, padded=(4,))),
    file("lib/numpy/none", b""),
    Item(PathRecord("share/closed", "directory", mode=0o555)),
    file("share/closed/data", b"data"),
]
MANY = [file(f"lib/many/{i % 7}/{i}.py", b"number = %d\n" % i) for i in range(70)]
RUNTIME = [file("bin/activate", b"true\n"), file("lib/large", NOISE[::-1])]


def demo(version: int) -> list[Item]:
    return [file("lib/demo.py", b"version = %d\n" % version), file("lib/noise", NOISE[version:150_000])]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for version in (1, 2):
        segments = {"conda:numpy": NUMPY, "pypi:many": MANY, f"pypi:demo-{version}": demo(version)}
        make_bundle(folder / f"{version}.tar.zst", {**segments, "runtime": RUNTIME}, version=str(version))
    return folder


@pytest.fixture
def server(bundles: Path) -> Iterator[Files]:
    with serving({f"/{path.name}": path.read_bytes() for path in bundles.iterdir()}) as files:
        yield files


@pytest.fixture
def x(bundles: Path, tmp_path: Path) -> Path:
    """Version 1, deployed."""
    deployed(bundles / "1.tar.zst", tmp_path / "x")
    return tmp_path / "x"


def upgraded(server: Files, root: Path) -> Deployment:
    server.reset()
    return deployed(f"{server.url}/2.tar.zst", root)


def like_fresh(bundles: Path, root: Path) -> None:
    """The tree is what a deployment to the same place, with nothing there before, becomes."""
    found = snapshot(root, record=False)
    root.rename(root.with_name("aside"))
    root.with_name(f".{root.name}.envpack").rename(root.with_name("kept"))
    deployed(bundles / "2.tar.zst", root)
    assert found == snapshot(root, record=False)


def stored(bundle: Path, *ids: str) -> int:
    with open_bundle(bundle, FAST) as opened:
        found = {segment.id: segment.stored for segment in opened.manifest.segments}
    return sum(found[id] for id in ids)


def head(bundle: Path) -> int:
    with open_bundle(bundle, FAST) as opened:
        return opened.head_size


def test_only_the_changed_segment_is_fetched(x: Path, bundles: Path, server: Files) -> None:
    done = upgraded(server, x)
    bundle = bundles / "2.tar.zst"
    assert done.read == stored(bundle, "pypi:demo-2")
    assert done.stored == bundle.stat().st_size - head(bundle)
    most_of_a_start = 64 << 10
    assert done.read < server.served <= done.read + head(bundle) + most_of_a_start < done.stored / 3
    assert verify_deployment(x, reporter=Reporter(), jobs=1).extra == ()
    like_fresh(bundles, x)


def test_the_deployment_before_is_not_touched_and_shares_nothing(x: Path, server: Files) -> None:
    before = snapshot(x, record=False)
    upgraded(server, x)
    former = x.with_name(".x.envpack") / "1"
    assert snapshot(former, record=False) == before
    assert not (former / "lib/numpy/core/core.so").samefile(x / "lib/numpy/core/core.so")
    assert rollback(x, reporter=Reporter()).generation == 1
    assert snapshot(x, record=False) == before


def test_a_deployment_that_was_moved_is_still_of_use(x: Path, bundles: Path, server: Files) -> None:
    move(x, x.with_name("y"), reporter=Reporter())
    x.with_name("y").rename(x.with_name("z"))  # by hand: y's path is still in its files
    z = x.with_name("z")
    assert upgraded(server, z).read == stored(bundles / "2.tar.zst", "pypi:demo-2")
    like_fresh(bundles, z)


def test_a_tree_that_tar_unpacked_is_of_use(bundles: Path, server: Files, tmp_path: Path) -> None:
    make_bundle(tmp_path / "1.tar.gz", {"conda:numpy": NUMPY, "runtime": RUNTIME}, version="1")
    (tmp_path / "x").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "1.tar.gz", "-C", tmp_path / "x"], check=True)
    assert upgraded(server, tmp_path / "x").read == stored(bundles / "2.tar.zst", "pypi:demo-2", "pypi:many")
    like_fresh(bundles, tmp_path / "x")


def test_files_of_the_user_s_own_are_not_taken_over(x: Path, bundles: Path, server: Files) -> None:
    (x / "lib/many/mine.py").write_text("mine")
    (x / "notes").symlink_to("/etc")
    upgraded(server, x)
    assert not (x / "lib/many/mine.py").exists() and not (x / "notes").is_symlink()
    like_fresh(bundles, x)


def test_a_file_and_a_server_without_ranges_are_read_whole(x: Path, bundles: Path, server: Files) -> None:
    server.ranges = False
    done = upgraded(server, x)
    assert done.read == done.stored < server.served
    done = deployed(bundles / "1.tar.zst", x)
    assert done.read == done.stored


def test_the_amount_that_was_read_is_reported(x: Path, server: Files) -> None:
    command = [sys.executable, "-m", "envpack", "deploy", f"{server.url}/2.tar.zst", str(x)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "152 kB of 756 kB read, the rest was copied from the previous generation" in " ".join(
        done.stdout.split()
    )
    assert "152 kB of 756 kB read, verified" in done.stderr


# --- a changed deployment ---


def edited(path: Path, data: bytes = b"") -> None:
    """Other bytes, as many as before, at the same time as before."""
    facts = path.stat()
    content = path.read_bytes()
    path.write_bytes(data or bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def linked(path: Path) -> None:
    """A link in its place, to the very same content."""
    elsewhere = path.with_name(f"real-{path.name}")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def file_for_a_folder(path: Path) -> None:
    shutil.rmtree(path)
    path.touch()


def several(x: Path, change: Callable[[Path], object], *paths: str) -> None:
    for path in paths:
        change(x / path)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


LARGE, SMALL = "lib/numpy/core/core.so", "lib/many/3/52.py"
DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "large edited": (lambda x: edited(x / LARGE), ["conda:numpy"]),
    "last byte edited": (lambda x: edited(x / LARGE, NOISE[:-1] + b"."), ["conda:numpy"]),
    "small edited": (lambda x: edited(x / SMALL), ["pypi:many"]),
    "longer": (lambda x: longer(x / SMALL), ["pypi:many"]),
    "shorter": (lambda x: os.truncate(x / LARGE, 1000), ["conda:numpy"]),
    "filled": (lambda x: (x / "lib/numpy/none").write_text("x"), ["conda:numpy"]),
    "missing": (lambda x: (x / SMALL).unlink(), ["pypi:many"]),
    "first of a segment missing": (lambda x: (x / "lib/many/0/0.py").unlink(), ["pypi:many"]),
    "folder missing": (lambda x: shutil.rmtree(x / "lib/many"), ["pypi:many"]),
    "link": (lambda x: linked(x / SMALL), ["pypi:many"]),
    "folder a link": (lambda x: linked(x / "lib/numpy/core"), ["conda:numpy"]),
    "upper folder a link": (lambda x: linked(x / "lib"), ["conda:numpy", "pypi:many", "runtime"]),
    "pipe": (lambda x: fifo(x / LARGE), ["conda:numpy"]),
    "folder for a file": (lambda x: folder(x / SMALL), ["pypi:many"]),
    "file for a folder": (lambda x: file_for_a_folder(x / "lib/many"), ["pypi:many"]),
    "script edited": (lambda x: edited(x / "bin/f2py", b"#!/bin/sh\n"), ["conda:numpy"]),
    "another place in a script": (
        lambda x: edited(x / "bin/f2py", (x / "bin/f2py").read_bytes().replace(b"/x", b"/y")),
        ["conda:numpy"],
    ),
    "binary edited": (lambda x: edited(x / "lib/numpy/tool"), ["conda:numpy"]),
    "all of it": (
        lambda x: several(x, edited, LARGE, SMALL, "lib/large"),
        ["conda:numpy", "pypi:many", "runtime"],
    ),
    "modes": (lambda x: several(x, lambda path: path.chmod(0o4711), LARGE, SMALL), []),
    "times": (lambda x: os.utime(x / LARGE), []),
}
EVERYTHING = ["conda:numpy", "pypi:many", "runtime", "end"]
HEAD_DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "table edited": (lambda x: edited(x / ".envpack/paths.json"), EVERYTHING),
    "table of another": (lambda x: (x / ".envpack/paths.json").write_text('{"segments":[]}'), EVERYTHING),
    "table missing": (lambda x: (x / ".envpack/paths.json").unlink(), EVERYTHING),
    "table a folder": (lambda x: folder(x / ".envpack/paths.json"), EVERYTHING),
    "manifest edited": (lambda x: edited(x / ".envpack/manifest.json"), EVERYTHING),
    "digest missing": (lambda x: (x / ".envpack/manifest.sha256").unlink(), EVERYTHING),
    "prefix of no path": (lambda x: (x / ".envpack/prefix").write_bytes(b"\xff$(:" * 4000), EVERYTHING),
    "another prefix": (lambda x: (x / ".envpack/prefix").write_text("/elsewhere\n"), ["conda:numpy"]),
    "no prefix": (lambda x: (x / ".envpack/prefix").unlink(), ["conda:numpy"]),
}


LONG = {
    "last byte edited",
    "small edited",
    "shorter",
    "first of a segment missing",
    "folder a link",
    "folder for a file",
    "file for a folder",
    "all of it",
    "times",
    "table of another",
    "table a folder",
    "manifest edited",
    "no prefix",
}
"""What fails as another one does."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in (*DAMAGE, *HEAD_DAMAGE)],
)
def test_whatever_was_changed_comes_from_the_bundle(name: str, x: Path, bundles: Path, server: Files) -> None:
    damage, segments = {**DAMAGE, **HEAD_DAMAGE}[name]
    damage(x)
    done = upgraded(server, x)
    assert done.read == stored(bundles / "2.tar.zst", "pypi:demo-2", *segments)
    like_fresh(bundles, x)


def test_a_bundle_damaged_where_it_is_read_leaves_the_old_one(x: Path, server: Files) -> None:
    data = bytearray(server.data["/2.tar.zst"])
    with_noise = data.rindex(NOISE[100_000:100_100])  # of demo, which no codec makes smaller
    data[with_noise] ^= 1
    server.data["/2.tar.zst"] = bytes(data)
    before = snapshot(x, record=False)
    with pytest.raises(Exception, match="damaged"):
        upgraded(server, x)
    assert snapshot(x, record=False) == before and not x.with_name(".x.envpack").exists()


# --- clones ---


@pytest.mark.parametrize("clones", [True, False])
@pytest.mark.parametrize("damage", [False, True])
def test_clones_are_proved_as_copies_are(
    x: Path, bundles: Path, server: Files, clones: bool, damage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do by copying what the call does on btrfs or XFS; see below for the call itself."""
    cloned = []

    def clone(out: int, request: int, data: int) -> int:
        assert request == 0x40049409
        if not clones:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        cloned.append(out)
        return os.sendfile(out, data, 0, 1 << 30)

    if damage:
        edited(x / LARGE)
        os.utime(x / LARGE)
    monkeypatch.setattr(fcntl, "ioctl", clone)
    read = upgraded(server, x).read
    monkeypatch.undo()
    assert read == stored(bundles / "2.tar.zst", "pypi:demo-2", *(["conda:numpy"] if damage else []))
    assert bool(cloned) is clones
    like_fresh(bundles, x)


def test_files_are_cloned_where_the_filesystem_can(bundles: Path, server: Files, tmp_path: Path) -> None:
    with cloning_filesystem(tmp_path) as mount:
        deployed(bundles / "1.tar.zst", mount / "x")
        assert upgraded(server, mount / "x").read == stored(bundles / "2.tar.zst", "pypi:demo-2")
        (mount / ".x.envpack/1" / LARGE).write_text("mine")
        like_fresh(bundles, mount / "x")


# --- stopped midway, and memory ---

_KILLED = """
import os, signal, sys
from pathlib import Path
from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.report import Reporter
left = int(sys.argv[3])
def counted(event, arguments):
    global left
    if event == "open" and b".x.envpack/new-2/" in os.fsencode(str(arguments[0]).encode()):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(counted)
deploy(sys.argv[1], Path(sys.argv[2]), DeployOptions(jobs=2), reporter=Reporter(), decoders=FAST)
"""


def test_killed_midway_the_old_one_is_whole(x: Path, bundles: Path, server: Files) -> None:
    before = snapshot(x, record=False)
    for point in (4, 30, 84):
        command = [sys.executable, "-c", _KILLED, f"{server.url}/2.tar.zst", x, point]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert (x.with_name(".x.envpack") / "new-2/.envpack/paths.json").is_file()
        assert snapshot(x, record=False) == before
    assert upgraded(server, x).generation == 2
    like_fresh(bundles, x)


_MEASURED = """
import re, sys
from pathlib import Path
from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.report import Reporter
done = deploy(sys.argv[1], Path(sys.argv[2]), DeployOptions(jobs=2), reporter=Reporter(), decoders=FAST)
print(done.read, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_memory_does_not_grow_with_what_is_taken(tmp_path: Path) -> None:
    large = NOISE[:262_144] * 352
    parts = {"conda:a": [file("lib/a", large)], "conda:b": [file("lib/b", NOISE)]}
    make_bundle(tmp_path / "b.tar.zst", {**parts, "runtime": [file("bin/activate", b"true\n")]})
    deployed(tmp_path / "b.tar.zst", tmp_path / "x")
    with serving({"/b": (tmp_path / "b.tar.zst").read_bytes()}) as server:
        command = [sys.executable, "-c", _MEASURED, f"{server.url}/b", tmp_path / "x"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    read, most = map(int, done.stdout.split())
    assert read == 0
    assert most * 1024 < 80 << 20 < len(large)
